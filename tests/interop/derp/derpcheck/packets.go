package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"syscall"
	"time"

	"tailscale.com/derp"
	"tailscale.com/types/key"

	"tunn/interop/derp/ends"
)

func init() {
	add("", "packets_of_every_size_both_ways", sizes)
	add("", "packets_through_websocket", throughWebSocket)
	add("", "a_packet_to_oneself_comes_back", toOneself)
	add("", "packets_reach_only_whom_they_name", onlyWhom)
	add("", "a_reader_that_stops_does_not_stall_others", freeze)
	add("", "a_reader_that_stays_stopped_is_cut", frozenIsCut)
	add("", "100_mb_of_64_kib_30_in_flight_in_15_s", hundred)
	add("", "note_preferred_is_taken_however_often", preferred)
}

var everySize = []int{0, 1, 61, 62, 1400, 4091, 4096, 32768, 65535, 65536}

func (t *T) exchange(a, b *ends.Peer, sizes []int) {
	for i, n := range sizes {
		for j, way := range [][2]*ends.Peer{{a, b}, {b, a}} {
			pkt := data(n, i*2+j)
			t.Must(way[0].C.Send(way[1].Pub, pkt), "sending %d bytes", n)
			t.Packet(way[1], way[0].Pub, pkt)
		}
	}
}

func sizes(t *T) {
	a, b := t.Peer(ends.Options{}), t.Peer(ends.Options{})
	t.exchange(a, b, everySize)
	for _, n := range []int{62, 1400, 65536} { // in the other queue
		t.Must(a.C.Send(b.Pub, disco(n)), "sending")
		t.Packet(b, a.Pub, disco(n))
	}
	t.Quiet(a)
	t.Quiet(b)
	a.C.Send(b.Pub, make([]byte, 65537)) // the client refuses it by giving up its connection
	t.Ended(a)
	t.Gone(b, a.Pub, derp.PeerGoneReasonDisconnected)
}

// A frame over 32768 bytes is over the limit that Go's library sets itself, so the original's own
// server and client lose the connection there; what this server does is noted.
func throughWebSocket(t *T) {
	a := t.Peer(ends.Options{})
	webSocket()
	w := t.Peer(ends.Options{URL: t.url()})
	_, tls := w.C.TLSConnectionState()
	t.Check(!tls, "the client did not take WebSocket")
	v := t.Peer(ends.Options{URL: t.url()})
	small := []int{0, 1, 61, 62, 1400, 4091, 4096, 32768 - 37}
	t.exchange(a, w, small)
	t.exchange(w, v, small)
	t.Must(w.C.Ping(context.Background()), "ping")
	for i := range 30 { // as many as a queue holds
		t.Must(a.C.Send(w.Pub, data(1200, i)), "sending")
	}
	for i := range 30 {
		t.Packet(w, a.Pub, data(1200, i))
	}
	t.Must(a.C.Send(w.Pub, make([]byte, 65536)), "sending")
	m, err := w.Next(ends.Limit)
	_, there := m.(derp.ReceivedPacket)
	t.note("65536_to_websocket", map[bool]string{true: "delivered", false: fmt.Sprint(err)}[there])
	t.Must(v.C.Send(a.Pub, make([]byte, 65536)), "sending")
	select {
	case m := <-a.In:
		t.note("65536_from_websocket", fmt.Sprintf("%T", m))
	case m := <-v.In:
		t.note("65536_from_websocket", fmt.Sprint(m))
	case <-time.After(ends.Limit):
		t.note("65536_from_websocket", "nothing")
	}
}

func toOneself(t *T) {
	a := t.Peer(ends.Options{})
	t.Must(a.C.Send(a.Pub, []byte("me")), "sending")
	t.Packet(a, a.Pub, []byte("me"))
}

func onlyWhom(t *T) {
	p := []*ends.Peer{t.Peer(ends.Options{}), t.Peer(ends.Options{}), t.Peer(ends.Options{})}
	t.Must(p[0].C.Send(p[1].Pub, []byte("hello 0->1")), "sending")
	t.Packet(p[1], p[0].Pub, []byte("hello 0->1"))
	t.Must(p[1].C.Send(p[2].Pub, []byte("hello 1->2")), "sending")
	t.Packet(p[2], p[1].Pub, []byte("hello 1->2"))
	for _, q := range p {
		t.Quiet(q)
	}
}

// frozen is a client that does not read and whose kernel keeps little for it.
func (t *T) frozen() *ends.Raw {
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 16384) })
	}}
	nc, err := d.Dial("tcp", t.S.Addr())
	t.Must(err, "connecting")
	c, err := ends.TLSOver(nc, t.S, nil)
	t.Must(err, "connecting")
	t.closers = append(t.closers, func() { c.Close() })
	r := ends.NewRaw(c, key.NodePrivate{})
	_, err = r.Write([]byte(ends.FastRequest))
	t.Must(err, "asking")
	t.Must(r.Greeting(), "greeting")
	t.Must(r.Send(ends.ClientInfo, r.Info(plain)), "ClientInfo")
	t.Must(r.Info2(), "ServerInfo")
	return r
}

func numbered(i int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(i)) }

// Alice streams to bob and to cathy; cathy stops reading. Bob loses nothing and waits for nothing. When
// cathy reads again she has lost what was oldest in the queue, never the newest, and all is in order.
func freeze(t *T) {
	alice, bob, cathy := t.Peer(ends.Options{}), t.Peer(ends.Options{}), t.frozen()
	const window, size = 16, 8192
	start, sent, got := time.Now(), 0, 0
	receive := func() {
		m := t.Next(bob)
		pkt, ok := m.(derp.ReceivedPacket)
		t.Check(ok && len(pkt.Data) == size && binary.BigEndian.Uint32(pkt.Data) == uint32(got), "bob got %T, not packet %d", m, got)
		got++
	}
	for ; sent < 3000 && time.Since(start) < 1500*time.Millisecond; sent++ {
		pkt := make([]byte, size)
		copy(pkt, numbered(sent))
		t.Must(alice.C.Send(cathy.Pub, pkt), "to cathy")
		t.Must(alice.C.Send(bob.Pub, pkt), "to bob")
		for sent-got > window {
			receive()
		}
	}
	for got < sent {
		receive()
	}
	marks := 5 // in the queue of disco packets, which data does not push out of its own
	for i := range marks {
		pkt := append(disco(62), numbered(i)...)
		t.Must(alice.C.Send(cathy.Pub, pkt), "disco to cathy")
	}
	for range 100 { // and these do not push them out
		pkt := make([]byte, size)
		copy(pkt, numbered(sent))
		t.Must(alice.C.Send(cathy.Pub, pkt), "to cathy")
		sent++
	}
	t.Quiet(alice) // the server has read it all
	seen, last := 0, -1
	for next := 0; last != sent-1 || next != marks; {
		kind, b, err := cathy.Read1()
		t.Must(err, "cathy after the thaw, %d packets in, the last was %d of %d", seen, last, sent)
		if len(b) == 32+66 && kind == ends.RecvPacket {
			n := int(binary.BigEndian.Uint32(b[94:]))
			t.Check(n == next, "disco packet %d where %d was due", n, next)
			next++
			continue
		}
		t.Check(kind == ends.RecvPacket && len(b) == 32+size, "type %#x of %d bytes", kind, len(b))
		n := int(binary.BigEndian.Uint32(b[32:]))
		t.Check(n > last, "packet %d after %d", n, last)
		seen, last = seen+1, n
	}
	t.Check(seen < sent, "nothing was lost: the buffers are larger than all that was sent")
	_, err := cathy.Alive()
	t.Must(err, "cathy after the thaw")
	t.note("bob", got)
	t.note("cathy", seen)
}

func frozenIsCut(t *T) {
	alice, cathy := t.Peer(ends.Options{}), t.frozen()
	t.Must(cathy.To(alice.Pub, []byte("hi")), "hi")
	t.Packet(alice, cathy.Pub, []byte("hi"))
	start := time.Now()
	for {
		t.Must(alice.C.Send(cathy.Pub, make([]byte, 8192)), "to cathy")
		m, err := alice.Next(time.Millisecond)
		if err == nil {
			t.Check(m == any(derp.PeerGoneMessage{Peer: cathy.Pub, Reason: derp.PeerGoneReasonDisconnected}), "got %T %+v", m, m)
			break
		}
		t.Check(time.Since(start) < 15*time.Second, "cathy is still there after 15 s")
	}
	t.Check(time.Since(start) > 1500*time.Millisecond, "cut after %v", time.Since(start))
	t.note("seconds", time.Since(start).Seconds())
}

// The bandwidth probe of the original's prober, by its figures.
func hundred(t *T) {
	a, b := t.Peer(ends.Options{}), t.Peer(ends.Options{})
	const size, total, window = 65536, 100_000_000, 30
	flight := make(chan bool, window)
	end := time.After(15 * time.Second)
	start := time.Now()
	pkt := data(size, 1)
	go func() {
		out := bytes.Clone(pkt)
		for i := 0; i*size < total; i++ {
			flight <- true
			copy(out, numbered(i))
			if a.C.Send(b.Pub, out[:min(size, total-i*size)]) != nil {
				return
			}
		}
	}()
	got := 0
	for i := 0; got < total; i++ {
		select {
		case m := <-b.In:
			p, ok := m.(derp.ReceivedPacket)
			t.Check(ok, "got %T %v after %d packets", m, m, i)
			want := min(size, total-i*size)
			t.Check(len(p.Data) == want && binary.BigEndian.Uint32(p.Data) == uint32(i) && bytes.Equal(p.Data[4:], pkt[4:want]), "packet %d is another", i)
			got += len(p.Data)
			<-flight
		case <-end:
			t.Fail("%d of %d bytes in 15 s", got, total)
		}
	}
	t.note("seconds", time.Since(start).Seconds())
	t.note("MB_per_s", float64(total)/1e6/time.Since(start).Seconds())
}

func preferred(t *T) {
	r := t.Raw(plain)
	home := func(want int) {
		_, err := r.Alive()
		t.Must(err, "after NotePreferred")
		if got, ok := t.gauge("derp_current_home_connections"); ok {
			t.Check(got == want, "%d homes, not %d", got, want)
		}
	}
	for _, step := range []struct{ say, homes byte }{{1, 1}, {1, 1}, {0, 0}, {0, 0}, {7, 1}, {0, 0}} {
		t.Must(r.Send(ends.NotePreferred, []byte{step.say}), "NotePreferred")
		home(int(step.homes))
	}
	p := t.Peer(ends.Options{})
	p.C.NotePreferred(true)
	p.C.NotePreferred(false)
	t.Must(p.C.Ping(context.Background()), "ping")
}
