package main

import (
	"time"

	"tailscale.com/derp"
	"tailscale.com/types/key"

	"tunn/interop/derp/ends"
)

func init() {
	add("", "peer_gone_not_here_only_for_disco_three_in_a_burst", notHere)
	add("", "peer_gone_disconnected_once_and_to_those_who_heard", disconnected)
	add("", "of_two_connections_the_last_to_speak_receives", duplicates)
	add("", "gauges_follow_connections", gauges)
}

func notHere(t *T) {
	p := t.Peer(ends.Options{})
	away := stranger()
	for _, pkt := range [][]byte{{}, []byte("plain"), make([]byte, 1400), disco(61)} {
		t.Must(p.C.Send(away, pkt), "sending")
	}
	t.Quiet(p)
	start := time.Now()
	t.Must(p.C.Send(away, disco(62)), "sending")
	t.Gone(p, away, derp.PeerGoneReasonNotHere)
	for range 5 {
		t.Must(p.C.Send(away, disco(62)), "sending")
	}
	came := t.Fence(p)
	refill := int(time.Since(start).Seconds())
	t.Check(len(came) >= 2 && len(came) <= 2+refill, "%d more in %v", len(came), time.Since(start))
	for _, m := range came {
		t.Check(m == any(derp.PeerGoneMessage{Peer: away, Reason: derp.PeerGoneReasonNotHere}), "got %T %+v", m, m)
	}
	// the bucket is the sender's
	q := t.Peer(ends.Options{})
	t.Must(q.C.Send(away, disco(1400)), "sending")
	t.Gone(q, away, derp.PeerGoneReasonNotHere)
}

func disconnected(t *T) {
	a, b, c := t.Peer(ends.Options{}), t.Peer(ends.Options{}), t.Peer(ends.Options{})
	t.Must(a.C.Send(b.Pub, []byte("0->1")), "sending")
	t.Packet(b, a.Pub, []byte("0->1"))
	t.Must(b.C.Send(c.Pub, []byte("1->2")), "sending")
	t.Packet(c, b.Pub, []byte("1->2"))
	b.C.Close()
	t.Gone(c, b.Pub, derp.PeerGoneReasonDisconnected)
	t.Quiet(c)
	t.Quiet(a) // it sent to b, and heard nothing from it
	c.C.Close()
	t.Quiet(a)
	// The original forgets to tell the same connection a second time.
	b2 := t.Peer(ends.Options{})
	for range 2 {
		n := t.Peer(ends.Options{Key: b.Key})
		t.Must(n.C.Send(b2.Pub, []byte("again")), "sending")
		t.Packet(b2, b.Pub, []byte("again"))
		n.C.Close()
		if m, err := b2.Next(time.Second); err == nil {
			t.Check(m == any(derp.PeerGoneMessage{Peer: b.Pub, Reason: derp.PeerGoneReasonDisconnected}), "got %T %+v", m, m)
			n, _ := t.Notes["told_in_two_comings"].(int)
			t.note("told_in_two_comings", n+1)
		}
	}
	t.Check(t.Notes["told_in_two_comings"] != nil, "nobody was told of the first")
}

// reaches sends until one packet comes to p; what went elsewhere is looked at by the caller.
func (t *T) reaches(from, p *ends.Peer, to key.NodePublic) {
	end := time.Now().Add(ends.Limit)
	for {
		t.Must(from.C.Send(to, []byte("where")), "sending")
		m, err := p.Next(50 * time.Millisecond)
		if err == nil {
			_, ok := m.(derp.ReceivedPacket)
			t.Check(ok, "got %T %+v", m, m)
			break
		}
		t.Check(time.Now().Before(end), "nothing reached it: %v", err)
	}
	for _, m := range t.Fence(p) {
		_, ok := m.(derp.ReceivedPacket)
		t.Check(ok, "got %T %+v", m, m)
	}
}

func duplicates(t *T) {
	x := t.Peer(ends.Options{})
	k := key.NewNode()
	c1 := t.Peer(ends.Options{Key: k})
	to := func(p *ends.Peer, others ...*ends.Peer) {
		pkt := data(100, int(time.Now().UnixNano()))
		t.Must(x.C.Send(p.Pub, pkt), "sending")
		t.Packet(p, x.Pub, pkt)
		t.Quiet(x)
	}
	to(c1)
	c2 := t.Peer(ends.Options{Key: k})
	to(c2) // the newcomer
	t.Quiet(c1)
	to(c1) // which has spoken by Quiet
	t.Quiet(c2)
	to(c2)
	c3 := t.Peer(ends.Options{Key: k})
	to(c3)
	t.Must(c1.C.Send(x.Pub, []byte("c1")), "sending") // speaks, by a packet
	t.Packet(x, k.Public(), []byte("c1"))
	to(c1)
	t.Quiet(c2)
	t.Quiet(c3)
	to(c3)
	c3.C.Close()
	t.reaches(x, c2, k.Public()) // spoke last before c3
	to(c2)
	t.Quiet(c1)
	to(c1)
	c1.C.Close()
	t.reaches(x, c2, k.Public())
	t.Quiet(x) // the key is still there
	c2.C.Close()
	t.Gone(x, k.Public(), derp.PeerGoneReasonDisconnected)
	t.Quiet(x)
	t.Must(x.C.Send(k.Public(), disco(62)), "sending")
	t.Gone(x, k.Public(), derp.PeerGoneReasonNotHere)
}

func gauges(t *T) {
	const all, dups, keys = "derp_current_connections", "derp_current_dup_client_conns", "derp_current_dup_client_keys"
	before, ok := t.gauge(all)
	if !ok {
		t.note("gauges", "not looked at")
		return
	}
	want := func(name string, n int) {
		end := time.Now().Add(ends.Limit)
		for {
			got, _ := t.gauge(name)
			if got == n {
				return
			}
			t.Check(time.Now().Before(end), "%s is %d, not %d", name, got, n)
		}
	}
	a, b := t.Peer(ends.Options{}), t.Peer(ends.Options{})
	want(all, before+2)
	a2 := t.Peer(ends.Options{Key: a.Key})
	want(all, before+3)
	want(dups, 2)
	want(keys, 1)
	a3 := t.Peer(ends.Options{Key: a.Key})
	want(dups, 3)
	want(keys, 1)
	a3.C.Close()
	want(dups, 2)
	a.C.Close()
	want(dups, 0)
	want(keys, 0)
	b.C.Close()
	a2.C.Close()
	want(all, before)
}
