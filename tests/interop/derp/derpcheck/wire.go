package main

import (
	"io"
	"strings"

	"go4.org/mem"
	"tailscale.com/derp"
	"tailscale.com/types/key"

	"tunn/interop/derp/ends"
)

func init() {
	add("", "keys_of_nobody_do_not_end_the_connection", zeroKeys)
	add("", "unknown_frames_are_skipped", unknownFrames)
	add("", "a_frame_of_the_wrong_length_ends_the_connection", wrongLengths)
	add(mesh, "a_mesh_frame_of_the_wrong_length_ends_the_connection", wrongMeshLengths)
	add("", "a_ping_may_be_longer_than_eight", longPings)
	add("", "client_info_that_is_accepted", goodInfo)
	add("", "client_info_that_is_not", badInfo)
	add(mesh, "client_info_finds_the_mesh_key_in_any_case", meshInfo)
	add("", "client_info_with_an_empty_mesh_key", emptyMeshKey)
	add("", "request_client_info_and_packets_in_one_record", oneRecord)
	add("", "a_byte_at_a_time", byteAtATime)
	add("", "derpnet", derpnet)
	add(refused, "who_is_refused_is_cut_without_a_frame", refusedKey)
}

func zeroKeys(t *T) {
	r := t.Raw(plain)
	none := make([]byte, 32)
	t.Must(r.Send(ends.SendPacket, none), "sending")
	t.Must(r.Send(ends.SendPacket, none, []byte("hi")), "sending")
	before, err := r.Alive()
	t.Must(err, "after packets for nobody")
	t.Check(len(before) == 0, "frames %x", before)
	t.Must(r.Send(ends.SendPacket, none, disco(62)), "sending")
	kind, b, err := r.Read1()
	t.Must(err, "PeerGone")
	t.Check(kind == ends.PeerGone && string(b) == string(none)+"\x01", "type %#x, %x", kind, b)
}

// Whatever a client has no business to send, but 0x12, 0x07 and the like.
func unknownFrames(t *T) {
	r := t.Raw(plain)
	for _, kind := range []byte{0x00, 0x01, 0x02, 0x03, 0x05, 0x06, 0x08, 0x09, 0x0b, 0x13, 0x14, 0x15, 0x16, 0x7f, 0xff} {
		for _, n := range []int{0, 1, 100, 65536} {
			t.Must(r.Send(kind, make([]byte, n)), "type %#x of %d bytes", kind, n)
		}
		before, err := r.Alive()
		t.Must(err, "after type %#x", kind)
		t.Check(len(before) == 0, "frames %x after type %#x", before, kind)
	}
}

type badFrame struct {
	kind byte
	n    int
}

func (t *T) endAfter(info string, frames []badFrame) {
	for _, f := range frames {
		r := t.Raw(info)
		r.Send(f.kind, make([]byte, f.n)) // the server may be gone before it is all written
		came, err := r.AwaitEnd(ends.Limit)
		t.Must(err, "type %#x of %d bytes", f.kind, f.n)
		t.Check(len(came) == 0, "frames %x before the end", came)
	}
}

func wrongLengths(t *T) {
	t.endAfter(plain, []badFrame{{ends.SendPacket, 0}, {ends.SendPacket, 31}, {ends.SendPacket, 32 + 65537}, {ends.NotePreferred, 0},
		{ends.NotePreferred, 2}, {ends.Ping, 0}, {ends.Ping, 7}, {ends.Ping, 1001}})
}

func wrongMeshLengths(t *T) {
	t.endAfter(t.meshInfo(t.S.Mesh), []badFrame{{ends.WatchConns, 1}, {ends.ClosePeer, 0}, {ends.ClosePeer, 31}, {ends.ClosePeer, 33},
		{ends.ForwardPacket, 0}, {ends.ForwardPacket, 63}, {ends.ForwardPacket, 64 + 65537}})
}

func longPings(t *T) {
	r := t.Raw(plain)
	for _, n := range []int{8, 9, 64, 1000} {
		t.Must(r.Send(ends.Ping, data(n, 1)), "ping")
		kind, b, err := r.Read1()
		t.Must(err, "pong")
		t.Check(kind == ends.Pong && string(b) == string(data(n, 1)[:8]), "type %#x, %x", kind, b)
	}
}

// tryInfo gives what becomes of a connection with this payload in place of ClientInfo.
func (t *T) tryInfo(kind byte, payload func(r *ends.Raw) []byte) error {
	c, err := ends.DialTLS(t.S, nil)
	t.Must(err, "connecting")
	defer c.Close()
	r := ends.NewRaw(c, key.NodePrivate{})
	_, err = io.WriteString(r, ends.FastRequest)
	t.Must(err, "asking")
	t.Must(r.Greeting(), "greeting")
	r.Send(kind, payload(r)) // the server may be gone before it is all written
	return r.Info2()
}

func (t *T) tryJSON(text string) error {
	return t.tryInfo(ends.ClientInfo, func(r *ends.Raw) []byte { return r.Info(text) })
}

var badKeys = []string{`"badf00d"`, `"` + strings.Repeat("ab", 34) + `"`, `"` + strings.Repeat("zz", 32) + `"`, `"0"`}

func goodInfo(t *T) {
	for _, text := range []string{`{}`, ` { } `, `{"version": 2}`, `{"version":2,"CanAckPings":true}`, `{"Version":7,"canackpings":false,"ISPROBER":true}`,
		`{"version":0}`, `{"version":2,"version":3}`, `{"CanAckPings":true,"version":2,"what":{"is":["this",1.5e3,null,true]},"version2":"x"}`,
		`{"can_ack_pings":false,"is_prober":false,"mesh_key":"none","version":2}`, `{"version":2,"AppName":"tests","unknown":"\u00e9\ud83d\ude00"}`,
		`{"version":2,"pad":"` + strings.Repeat("x", 16000) + `"}`, `{"version":null,"CanAckPings":null}`} {
		t.Must(t.tryJSON(text), "%.80s", text)
	}
	err := t.tryJSON(`{"version":2,"pad":"` + strings.Repeat("x", 200000) + `"}`)
	t.Check(err == nil || ends.Ended(err), "200000 bytes: %v", err)
	t.note("200000_bytes", map[bool]string{true: "accepted", false: "refused"}[err == nil])
}

func badInfo(t *T) {
	for _, text := range []string{``, ` `, `{`, `{"version":2`, `[]`, `"version"`, `{"version":"2"}`, `{"version":2.5}`, `{"CanAckPings":1}`,
		`{"IsProber":"yes"}`, `{"version":2}x`, `{version:2}`, `{"version":2,}`} {
		t.Check(ends.Ended(t.tryJSON(text)), "%q was not refused", text)
	}
	for _, k := range badKeys {
		for _, name := range []string{"meshKey", "MeshKey"} {
			t.Check(ends.Ended(t.tryJSON(`{"`+name+`":`+k+`,"version":2}`)), "mesh key %s was not refused", k)
		}
	}
	for name, f := range map[string]func(r *ends.Raw) []byte{
		"nothing":         func(r *ends.Raw) []byte { return nil },
		"55 bytes":        func(r *ends.Raw) []byte { return r.Info("{}")[:55] },
		"a key alone":     func(r *ends.Raw) []byte { return r.Pub.AppendTo(nil) },
		"262145 bytes":    func(r *ends.Raw) []byte { return make([]byte, 262145) },
		"a box of zeroes": func(r *ends.Raw) []byte { return append(r.Pub.AppendTo(nil), make([]byte, 80)...) },
		"a flipped bit":   func(r *ends.Raw) []byte { b := r.Info("{}"); b[len(b)-1] ^= 1; return b },
		"another's key": func(r *ends.Raw) []byte {
			b := r.Info("{}")
			copy(b, stranger().AppendTo(nil))
			return b
		},
		"the zero key": func(r *ends.Raw) []byte { return append(make([]byte, 32), r.Info("{}")[32:]...) },
		"a key of low order": func(r *ends.Raw) []byte {
			b := r.Info("{}")
			copy(b, append([]byte{1}, make([]byte, 31)...))
			return b
		},
		"a box for another server": func(r *ends.Raw) []byte {
			return append(r.Pub.AppendTo(nil), r.Key.SealTo(key.NodePublicFromRaw32(mem.B(data(32, 5))), []byte("{}"))...)
		},
	} {
		t.Check(ends.Ended(t.tryInfo(ends.ClientInfo, f)), "%s was not refused", name)
	}
	for _, kind := range []byte{0x00, ends.ServerKey, ends.SendPacket, ends.Ping, ends.KeepAlive, 0x7f} {
		err := t.tryInfo(kind, func(r *ends.Raw) []byte { return r.Info(plain) })
		t.Check(ends.Ended(err), "type %#x in place of ClientInfo was not refused: %v", kind, err)
	}
}

func meshInfo(t *T) {
	upper := strings.ToUpper(t.S.Mesh)
	for _, text := range []string{`{"meshKey":"` + t.S.Mesh + `"}`, `{"MeshKey":"` + t.S.Mesh + `","version":2}`, `{"MESHKEY":"` + upper + `"}`,
		`{"meshKey":"` + strings.Repeat("00", 32) + `","meshkey":"` + t.S.Mesh + `"}`} {
		r := t.Raw(text)
		t.Must(r.Send(ends.WatchConns), "WatchConns")
		kind, _, err := r.Read1()
		t.Must(err, "%s is no mesh peer", text)
		t.Check(kind == ends.PeerPresent, "type %#x", kind)
	}
	none := t.Raw(`{"meshKey":"` + strings.Repeat("00", 32) + `"}`) // all zeroes: none
	t.Must(none.Send(ends.WatchConns), "WatchConns")
	_, err := none.AwaitEnd(ends.Limit)
	t.Must(err, "the zero mesh key")
}

func emptyMeshKey(t *T) {
	for name, text := range map[string]string{"empty": `{"version": 2, "meshKey": ""}`, "null": `{"version": 2, "meshKey": null}`} {
		err := t.tryJSON(text)
		t.Check(err == nil || ends.Ended(err), "%s: %v", text, err)
		t.note(name, map[bool]string{true: "accepted", false: "refused"}[err == nil])
	}
}

// raw is a connection that has sent nothing yet, to a server whose key is known.
func (t *T) raw(k key.NodePrivate) *ends.Raw {
	server := t.Raw(plain).Server
	c, err := ends.DialTLS(t.S, nil)
	t.Must(err, "connecting")
	t.closers = append(t.closers, func() { c.Close() })
	r := ends.NewRaw(c, k)
	r.Server = server
	return r
}

// whole is all a client has to say at first: the request, ClientInfo, NotePreferred, a packet to itself, a ping.
func (t *T) whole(r *ends.Raw, request string) []byte {
	b := []byte(request)
	b = append(b, ends.FrameBytes(ends.ClientInfo, r.Info(plain))...)
	b = append(b, ends.FrameBytes(ends.NotePreferred, []byte{1})...)
	b = append(b, ends.FrameBytes(ends.SendPacket, r.Pub.AppendTo(nil), []byte("me"))...)
	return append(b, ends.FrameBytes(ends.Ping, []byte("12345678"))...)
}

func (t *T) wholeIsAnswered(r *ends.Raw) {
	server := r.Server
	t.Must(r.Greeting(), "greeting")
	t.Check(r.Server == server, "another server key")
	t.Must(r.Info2(), "ServerInfo")
	want := map[byte]string{ends.RecvPacket: string(r.Pub.AppendTo(nil)) + "me", ends.Pong: "12345678"}
	for len(want) > 0 {
		kind, b, err := r.Read1()
		t.Must(err, "answers")
		t.Check(want[kind] == string(b), "type %#x, %x", kind, b)
		delete(want, kind)
	}
}

func oneRecord(t *T) {
	r := t.raw(key.NodePrivate{})
	_, err := r.Write(t.whole(r, ends.FastRequest))
	t.Must(err, "writing")
	t.wholeIsAnswered(r)
	r = t.raw(key.NodePrivate{}) // without Fast-Start nobody does this, but the bytes are DERP all the same
	_, err = r.Write(t.whole(r, ends.UpgradeRequest))
	t.Must(err, "writing")
	t.Must(t.skip101(r), "101")
	t.wholeIsAnswered(r)
}

func byteAtATime(t *T) {
	r := t.raw(key.NodePrivate{})
	for _, b := range t.whole(r, ends.FastRequest) {
		_, err := r.Write([]byte{b})
		t.Must(err, "writing")
	}
	t.wholeIsAnswered(r)
}

// derpnet speaks as github.com/ntnj/derpnet does: an empty Host, Fast-Start without looking at the meta
// certificate, ServerKey of 40 bytes, ServerInfo the very next frame; a zero byte before every packet.
func derpnet(t *T) {
	dial := func() *ends.Raw {
		c, err := ends.DialTLS(t.S, nil)
		t.Must(err, "connecting")
		t.closers = append(t.closers, func() { c.Close() })
		r := ends.NewRaw(c, key.NodePrivate{})
		_, err = io.WriteString(r, "GET /derp HTTP/1.1\r\nHost: \r\nUser-Agent: ntnj/derpnet\r\nConnection: Upgrade\r\nDerp-Fast-Start: 1\r\nUpgrade: DERP\r\n\r\n")
		t.Must(err, "asking")
		t.Must(r.Greeting(), "greeting")
		t.Must(r.Send(ends.ClientInfo, r.Info(`{"CanAckPings":true,"version":2}`)), "ClientInfo")
		t.Must(r.Info2(), "ServerInfo")
		return r
	}
	a, b, tail := dial(), dial(), t.Peer(ends.Options{})
	for i, n := range []int{0, 1, 1200, 1452, 32767, 32768} {
		for _, way := range [][2]*ends.Raw{{a, b}, {b, a}} {
			pkt := append([]byte{0}, data(n, i)...)
			t.Must(way[0].To(way[1].Pub, pkt), "sending")
			kind, got, err := way[1].Read1()
			t.Must(err, "receiving")
			t.Check(kind == ends.RecvPacket && string(got) == string(way[0].Pub.AppendTo(nil))+string(pkt), "%d bytes with their tag are others", n)
		}
		t.Must(a.To(tail.Pub, append([]byte{0}, data(n, i)...)), "sending")
		t.Packet(tail, a.Pub, append([]byte{0}, data(n, i)...))
	}
	a.Close()
	kind, got, err := b.Read1()
	t.Must(err, "PeerGone")
	t.Check(kind == ends.PeerGone && string(got) == string(a.Pub.AppendTo(nil))+string([]byte{byte(derp.PeerGoneReasonDisconnected)}), "type %#x", kind)
}

// Nobody is told why; the public pages and STUN are none of it.
func refusedKey(t *T) {
	c, err := ends.DialTLS(t.S, nil)
	t.Must(err, "connecting")
	defer c.Close()
	r := ends.NewRaw(c, key.NodePrivate{})
	_, err = io.WriteString(r, ends.FastRequest)
	t.Must(err, "asking")
	t.Must(r.Greeting(), "greeting")
	t.Must(r.Send(ends.ClientInfo, r.Info(plain)), "ClientInfo")
	came, err := r.AwaitEnd(ends.Limit)
	t.Must(err, "refused")
	t.Check(len(came) == 0, "frames %x", came)
	t.note("key", r.Pub.String())
	probePaths(t)
	t.generate204(t.tls())
	stunExact(t)
	if t.S.Mesh != "" { // a mesh peer is not asked about
		t.Raw(t.meshInfo(t.S.Mesh))
	}
}
