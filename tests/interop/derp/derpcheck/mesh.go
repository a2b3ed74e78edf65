package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"tailscale.com/derp"
	"tailscale.com/derp/derphttp"
	"tailscale.com/tailcfg"
	"tailscale.com/types/key"

	"tunn/interop/derp/ends"
)

func init() {
	add(mesh, "watchers_learn_who_comes_and_goes", watchers)
	add(mesh, "peer_present_has_51_bytes_and_a_second_watch_floods_again", present)
	add(mesh, "a_watcher_whose_connection_breaks_finds_itself_again", broken)
	add(mesh, "the_watch_loop_adds_removes_and_knows_itself", watchLoop)
	add(mesh, "a_forwarded_packet_has_the_source_it_names", forward)
	add(mesh, "close_peer_closes_every_connection_of_a_key", closePeer)
	add(mesh, "without_the_mesh_key_its_frames_end_the_connection", noRight)
	add(two, "a_mesh_of_two_carries_packets_both_ways", cross)
}

func (t *T) watcher() *ends.Peer { return t.Peer(ends.Options{Mesh: t.S.Mesh, Watch: true}) }

// change is the next message of w about one of these keys; others belong to who was here before.
func (t *T) change(w *ends.Peer, keys ...key.NodePublic) any {
	for {
		m := t.Next(w)
		switch m := m.(type) {
		case derp.PeerPresentMessage:
			if slices.Contains(keys, m.Key) {
				return m
			}
		case derp.PeerGoneMessage:
			if slices.Contains(keys, m.Peer) {
				return m
			}
		default:
			t.Fail("a watcher got %T %+v", m, m)
		}
	}
}

func (t *T) comes(w *ends.Peer, p key.NodePublic, flags derp.PeerPresentFlags, at netip.AddrPort) {
	m, ok := t.change(w, p).(derp.PeerPresentMessage)
	t.Check(ok && m.Flags == flags, "got %+v, wanted flags %d", m, flags)
	t.Check(!at.IsValid() || m.IPPort == at, "it is said to be at %v, and is at %v", m.IPPort, at)
}

func (t *T) goes(w *ends.Peer, p key.NodePublic) {
	start := time.Now()
	m := t.change(w, p)
	t.Check(m == any(derp.PeerGoneMessage{Peer: p}), "got %T %+v, wanted that it is gone", m, m)
	t.Check(time.Since(start) < time.Second, "told after %v", time.Since(start))
}

func (t *T) at(p *ends.Peer) netip.AddrPort {
	at, err := p.C.LocalAddr()
	t.Must(err, "own address")
	return at
}

const (
	regular  = derp.PeerPresentIsRegular
	isMesh   = derp.PeerPresentIsMeshPeer
	isProber = derp.PeerPresentIsProber
	notIdeal = derp.PeerPresentNotIdeal
)

func watchers(t *T) {
	w1 := t.watcher()
	t.comes(w1, w1.Pub, isMesh, t.at(w1))
	a := t.Peer(ends.Options{})
	t.comes(w1, a.Pub, regular, t.at(a))
	prober := t.Peer(ends.Options{Prober: true})
	t.comes(w1, prober.Pub, isProber, t.at(prober))
	both := t.Peer(ends.Options{Prober: true, Mesh: t.S.Mesh})
	t.comes(w1, both.Pub, isProber|isMesh, t.at(both))
	away := t.S.Node("900z", 900)
	away.DERPPort = 1 // where nobody listens
	second := t.Peer(ends.Options{Region: &tailcfg.DERPRegion{RegionID: 900, Nodes: []*tailcfg.DERPNode{away, t.S.Node("900a", 900)}}})
	t.comes(w1, second.Pub, notIdeal, t.at(second))

	w2 := t.watcher()
	t.comes(w1, w2.Pub, isMesh, t.at(w2))
	all := map[key.NodePublic]derp.PeerPresentFlags{w1.Pub: isMesh, a.Pub: regular, prober.Pub: isProber,
		both.Pub: isProber | isMesh, second.Pub: notIdeal, w2.Pub: isMesh}
	keys := []key.NodePublic{}
	for k := range all {
		keys = append(keys, k)
	}
	for len(all) > 0 {
		m, ok := t.change(w2, keys...).(derp.PeerPresentMessage)
		flags, there := all[m.Key]
		t.Check(ok && there && m.Flags == flags, "the second watcher got %+v", m)
		delete(all, m.Key)
	}

	again := t.Peer(ends.Options{Key: a.Key}) // told, though the key is there already
	t.comes(w1, a.Pub, regular, t.at(again))
	t.comes(w2, a.Pub, regular, t.at(again))
	again.C.Close()
	second.C.Close()
	t.goes(w1, second.Pub) // and not a
	t.goes(w2, second.Pub)
	a.C.Close()
	t.goes(w1, a.Pub)
	t.goes(w2, a.Pub)
	w2.C.Close()
	t.goes(w1, w2.Pub)
	if n, ok := t.gauge("derp_watchers"); ok {
		t.note("watchers", n)
	}
}

func (t *T) meshInfo(mesh string) string {
	return fmt.Sprintf(`{"meshKey":"%s","version":2,"CanAckPings":true}`, mesh)
}

func present(t *T) {
	r := t.Raw(t.meshInfo(t.S.Mesh))
	for range 2 {
		t.Must(r.Send(ends.WatchConns), "WatchConns")
		for {
			kind, b, err := r.Read1()
			t.Must(err, "waiting for oneself")
			if kind == ends.PeerGone {
				t.Check(len(b) == 33, "PeerGone has %d bytes", len(b))
				continue
			}
			t.Check(kind == ends.PeerPresent && len(b) == 51, "type %#x of %d bytes", kind, len(b))
			if string(b[:32]) != string(r.Pub.AppendTo(nil)) {
				continue
			}
			at := netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[32:48])), uint16(b[48])<<8|uint16(b[49]))
			t.Check(at.Addr().Is4In6(), "IPv4 is not in its mapped form: %v", at)
			here := r.LocalAddr().String()
			t.Check(netip.AddrPortFrom(at.Addr().Unmap(), at.Port()).String() == here, "%v is not %v", at, here)
			t.Check(b[50] == 2, "flags %d", b[50])
			break
		}
	}
	p := t.Peer(ends.Options{})
	for _, frame := range []byte{ends.PeerPresent, ends.PeerGone} {
		for {
			kind, b, err := r.Read1()
			t.Must(err, "waiting for a change")
			if string(b[:32]) == string(p.Pub.AppendTo(nil)) && kind == frame {
				t.Check(len(b) == map[byte]int{ends.PeerPresent: 51, ends.PeerGone: 33}[frame] && (frame == ends.PeerPresent || b[32] == 0), "%x", b)
				break
			}
		}
		p.C.Close()
	}
}

// Ten times over, by the real client, which connects anew by itself.
func broken(t *T) {
	c, err := ends.Client(t.S, ends.Options{Key: key.NewNode(), Mesh: t.S.Mesh, Watch: true})
	t.Must(err, "client")
	defer c.Close()
	killer := t.Peer(ends.Options{Mesh: t.S.Mesh})
	last := 0
	for round := range 10 {
		me := 0
		for me == 0 {
			m, gen, err := c.RecvDetail()
			t.Must(err, "round %d", round)
			if p, ok := m.(derp.PeerPresentMessage); ok && p.Key == c.SelfPublicKey() {
				me++
				t.Check(gen == last+1, "generation %d after %d", gen, last)
				last = gen
			}
		}
		t.Must(c.ForwardPacket(key.NodePublic{}, key.NodePublic{}, []byte("bogus")), "forwarding for nobody")
		mark := [8]byte{byte(round)}
		t.Must(c.SendPing(mark), "ping")
		for {
			m, _, err := c.RecvDetail()
			t.Must(err, "after a packet for nobody")
			p, ok := m.(derp.PeerPresentMessage)
			t.Check(!ok || p.Key != c.SelfPublicKey(), "it is there twice")
			if m == any(derp.PongMessage(mark)) {
				break
			}
		}
		t.Must(killer.C.ClosePeer(c.SelfPublicKey()), "breaking")
		for err == nil {
			_, err = c.Recv()
		}
		err = nil
	}
}

func watchLoop(t *T) {
	p := t.Peer(ends.Options{})
	run := func(ignore key.NodePublic) (added, removed chan key.NodePublic, ended chan bool, stop func()) {
		c, err := ends.Client(t.S, ends.Options{Key: key.NewNode(), Mesh: t.S.Mesh})
		t.Must(err, "client")
		ctx, cancel := context.WithCancel(context.Background())
		added, removed, ended = make(chan key.NodePublic, 100), make(chan key.NodePublic, 100), make(chan bool, 1)
		go func() {
			c.RunWatchConnectionLoop(ctx, ignore, nil, func(m derp.PeerPresentMessage) { added <- m.Key },
				func(m derp.PeerGoneMessage) { removed <- m.Peer }, func(err error) {})
			ended <- true
		}()
		return added, removed, ended, func() { cancel(); c.Close() }
	}
	await := func(c chan key.NodePublic, what string) {
		end := time.After(ends.Limit)
		for {
			select {
			case k := <-c:
				if k == p.Pub {
					return
				}
			case <-end:
				t.Fail("%s was not called", what)
			}
		}
	}
	added, removed, _, stop := run(key.NodePublic{})
	defer stop()
	await(added, "add")
	server := p.C.ServerPublicKey()
	p.C.Close()
	await(removed, "remove")
	_, _, ended, stopSelf := run(server)
	defer stopSelf()
	select {
	case <-ended:
	case <-time.After(ends.Limit):
		t.Fail("the loop did not see that it is connected to itself")
	}
}

func forward(t *T) {
	m, p, away := t.Peer(ends.Options{Mesh: t.S.Mesh}), t.Peer(ends.Options{}), stranger()
	for i, n := range everySize {
		t.Must(m.C.ForwardPacket(away, p.Pub, data(n, i)), "forwarding %d bytes", n)
		t.Packet(p, away, data(n, i))
	}
	t.Must(m.C.ForwardPacket(away, stranger(), []byte("plain")), "forwarding")
	t.Must(m.C.ForwardPacket(key.NodePublic{}, key.NodePublic{}, []byte("bogus")), "forwarding")
	t.Must(m.C.ForwardPacket(key.NodePublic{}, p.Pub, []byte("from nobody")), "forwarding")
	t.Quiet(m)
	t.Quiet(p) // the client does not see what the original makes of nobody's packet
	other := stranger()
	t.Must(m.C.ForwardPacket(away, other, disco(62)), "forwarding")
	t.Gone(m, other, derp.PeerGoneReasonNotHere)
	t.Quiet(p)
}

func closePeer(t *T) {
	m, p, stays := t.watcher(), t.Peer(ends.Options{}), t.Peer(ends.Options{})
	p2 := t.Peer(ends.Options{Key: p.Key})
	t.Must(m.C.ClosePeer(stranger()), "closing nobody")
	t.Must(m.C.ClosePeer(key.NodePublic{}), "closing nobody")
	t.Must(m.C.ClosePeer(p.Pub), "closing")
	t.Ended(p)
	t.Ended(p2)
	for range 2 {
		t.comes(m, p.Pub, regular, netip.AddrPort{})
	}
	t.goes(m, p.Pub)
	t.Quiet(stays)
}

func noRight(t *T) {
	victim := t.Peer(ends.Options{})
	wrong := "00000000000000000000000000000000000000000000000000000000000000aa"
	for _, info := range []string{plain, t.meshInfo(wrong)} {
		t.exchangeRaw(t.Raw(info), victim) // an ordinary client
		for _, f := range []struct {
			kind    byte
			payload []byte
		}{{ends.WatchConns, nil}, {ends.ClosePeer, victim.Pub.AppendTo(nil)},
			{ends.ForwardPacket, append(append(victim.Pub.AppendTo(nil), victim.Pub.AppendTo(nil)...), "hi"...)}} {
			r := t.Raw(info)
			t.Must(r.Send(f.kind, f.payload), "sending")
			came, err := r.AwaitEnd(ends.Limit)
			t.Must(err, "type %#x without the right", f.kind)
			t.Check(len(came) == 0, "frames %x before the end", came)
		}
	}
	for _, call := range []func(*derphttp.Client) error{
		func(c *derphttp.Client) error { return c.ForwardPacket(victim.Pub, victim.Pub, []byte("hi")) },
		func(c *derphttp.Client) error { return c.ClosePeer(victim.Pub) }} {
		p := t.Peer(ends.Options{})
		t.Must(call(p.C), "calling")
		t.Ended(p)
	}
	t.Quiet(victim)
}

func (t *T) exchangeRaw(r *ends.Raw, p *ends.Peer) {
	t.Must(r.To(p.Pub, []byte("to p")), "sending")
	t.Packet(p, r.Pub, []byte("to p"))
	t.Must(p.C.Send(r.Pub, []byte("to r")), "sending")
	kind, b, err := r.Read1()
	t.Must(err, "receiving")
	t.Check(kind == ends.RecvPacket && string(b) == string(p.Pub.AppendTo(nil))+"to r", "type %#x, %x", kind, b)
}

// Each end is at one server; the servers forward.
func cross(t *T) {
	a := t.Peer(ends.Options{})
	b, err := ends.Dial(t.Other, ends.Options{})
	t.Must(err, "connecting to the other")
	defer b.C.Close()
	start := time.Now()
	met := func(from, to *ends.Peer) { // the servers' links retry every 5 s
		for {
			t.Must(from.C.Send(to.Pub, []byte("are you there")), "sending")
			m, err := to.Next(50 * time.Millisecond)
			if err == nil {
				p, ok := m.(derp.ReceivedPacket)
				t.Check(ok && p.Source == from.Pub, "got %T %+v", m, m)
				break
			}
			t.Check(time.Since(start) < 30*time.Second, "nothing was forwarded within 30 s")
		}
	}
	met(a, b)
	met(b, a)
	t.note("met_after_ms", time.Since(start).Milliseconds())
	t.through(a, b)
	t.through(b, a)
	t.exchange(a, b, everySize)
	const n, window = 2000, 16
	answers := 0
	for i := range n {
		t.Must(a.C.Send(b.Pub, data(1400, i)), "sending")
		t.Packet(b, a.Pub, data(1400, i))
		t.Must(b.C.Send(a.Pub, numbered(i)), "answering")
		for ; i+1-answers > window; answers++ {
			t.Packet(a, b.Pub, numbered(answers))
		}
	}
	for ; answers < n; answers++ {
		t.Packet(a, b.Pub, numbered(answers))
	}
	away := stranger()
	t.Must(a.C.Send(away, disco(62)), "sending")
	t.Gone(a, away, derp.PeerGoneReasonNotHere)
	// who moves to the other server is found there
	moved, err := ends.Dial(t.Other, ends.Options{Key: a.Key})
	t.Must(err, "moving")
	defer moved.C.Close()
	a.C.Close()
	t.reaches(b, moved, a.Pub)
	b2 := t.Peer(ends.Options{})
	met(b2, moved)
	met(moved, b2)
	moved.C.Close()
	t.Gone(b, a.Pub, derp.PeerGoneReasonDisconnected)
	t.drainUntilGone(b2, a.Pub)
}

// through goes the whole way, behind packets that were repeated.
func (t *T) through(from, to *ends.Peer) {
	mark := data(50, int(time.Now().UnixNano()))
	t.Must(from.C.Send(to.Pub, mark), "sending")
	for {
		m := t.Next(to)
		p, ok := m.(derp.ReceivedPacket)
		t.Check(ok, "got %T %+v", m, m)
		if string(p.Data) == string(mark) {
			return
		}
	}
}

func (t *T) drainUntilGone(p *ends.Peer, peer key.NodePublic) {
	for {
		m := t.Next(p)
		if _, ok := m.(derp.ReceivedPacket); ok {
			continue
		}
		t.Check(m == any(derp.PeerGoneMessage{Peer: peer}), "got %T %+v", m, m)
		return
	}
}
