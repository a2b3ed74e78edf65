package main

import (
	"flag"
	"fmt"
	"time"

	"go4.org/mem"
	"tailscale.com/derp"
	"tailscale.com/types/key"

	"tunn/interop/derp/ends"
)

var peer = flag.String("peer", "", "nodekey:HEX of an end that sends back what it is sent")

func init() { add(echo, "an_end_echoes", endEchoes) }

// An end that is no Go at all, behind which a program sends everything back. It is told our key on the first line.
func endEchoes(t *T) {
	other, err := key.ParseNodePublicUntyped(mem.S((*peer)[len("nodekey:"):]))
	t.Must(err, "-peer")
	p := t.Peer(ends.Options{})
	fmt.Println(p.Pub.String())
	for start := time.Now(); ; { // until it is there
		t.Must(p.C.Send(other, []byte("hello")), "sending")
		if _, err := p.Next(100 * time.Millisecond); err == nil {
			break
		}
		t.Check(time.Since(start) < 20*time.Second, "nothing came back")
	}
	t.Fence(p)
	for i, n := range []int{1, 61, 62, 1400, 4096, 16000} {
		pkt := data(n, i)
		t.Must(p.C.Send(other, pkt), "sending %d bytes", n)
		for {
			m := t.Next(p)
			got, ok := m.(derp.ReceivedPacket)
			t.Check(ok && got.Source == other, "got %T %+v", m, m)
			if string(got.Data) != "hello" {
				t.Check(string(got.Data) == string(pkt), "%d bytes came back as %d others", n, len(got.Data))
				break
			}
		}
	}
}
