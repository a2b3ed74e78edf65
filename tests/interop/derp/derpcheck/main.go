// Command derpcheck holds one DERP server, whoever wrote it, to what Tailscale's clients, probers and
// tests demand. `derpcheck -server FILE CASE` prints one line of JSON; FILE is an ends.Server.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"time"

	"go4.org/mem"
	"tailscale.com/derp"
	"tailscale.com/types/key"

	"tunn/interop/derp/ends"
)

// T is one case at work.
type T struct {
	S, Other ends.Server
	Notes    map[string]any // figures, and what servers may do differently
	closers  []func()
}

type failure string

// Fail ends the case.
func (t *T) Fail(format string, a ...any) { panic(failure(fmt.Sprintf(format, a...))) }

// Must ends the case unless err is nil.
func (t *T) Must(err error, format string, a ...any) {
	if err != nil {
		t.Fail("%s: %v", fmt.Sprintf(format, a...), err)
	}
}

// Check ends the case unless ok.
func (t *T) Check(ok bool, format string, a ...any) {
	if !ok {
		t.Fail(format, a...)
	}
}

// Peer connects a real client.
func (t *T) Peer(o ends.Options) *ends.Peer {
	p, err := ends.Dial(t.S, o)
	t.Must(err, "connecting")
	t.closers = append(t.closers, func() { p.C.Close() })
	return p
}

const plain = `{"version":2,"CanAckPings":true}`

// Raw connects a bare client with this ClientInfo.
func (t *T) Raw(info string) *ends.Raw { return t.RawKey(key.NodePrivate{}, info) }

// RawKey is the same with this key.
func (t *T) RawKey(k key.NodePrivate, info string) *ends.Raw {
	r, err := ends.Join(t.S, k, info)
	t.Must(err, "joining with %s", info)
	t.closers = append(t.closers, func() { r.Close() })
	return r
}

// Next is the next message of p.
func (t *T) Next(p *ends.Peer) any {
	m, err := p.Next(ends.Limit)
	t.Must(err, "waiting for a message")
	return m
}

// Packet requires the next message of p to be this packet.
func (t *T) Packet(p *ends.Peer, from key.NodePublic, want []byte) {
	m := t.Next(p)
	pkt, ok := m.(derp.ReceivedPacket)
	t.Check(ok, "got %T %+v, wanted a packet of %d bytes", m, m, len(want))
	t.Check(pkt.Source == from, "the packet is from %v, not %v", pkt.Source, from)
	t.Check(string(pkt.Data) == string(want), "got %d other bytes than the %d sent", len(pkt.Data), len(want))
}

// Gone requires the next message of p to say that peer is gone, for this reason.
func (t *T) Gone(p *ends.Peer, peer key.NodePublic, why derp.PeerGoneReasonType) {
	m := t.Next(p)
	t.Check(m == any(derp.PeerGoneMessage{Peer: peer, Reason: why}), "got %T %+v, wanted PeerGone of %v for reason %d", m, m, peer, why)
}

// Fence goes to the server and back three times, and gives what came meanwhile: what the server had
// to say before is said by then.
func (t *T) Fence(p *ends.Peer) (came []any) {
	for i := range 3 {
		mark := [8]byte{0, 'f', 'e', 'n', 'c', 'e', byte(i), byte(time.Now().UnixNano())}
		t.Must(p.C.SendPing(mark), "ping")
		for {
			m := t.Next(p)
			if m == any(derp.PongMessage(mark)) {
				break
			}
			came = append(came, m)
		}
	}
	return came
}

// Quiet requires that nothing comes to p.
func (t *T) Quiet(p *ends.Peer) {
	came := t.Fence(p)
	t.Check(len(came) == 0, "%d messages came where none was due, the first %T %+v", len(came), first(came), first(came))
}

func first(came []any) any {
	if len(came) == 0 {
		return nil
	}
	return came[0]
}

// Ended requires the server to end the connection of p.
func (t *T) Ended(p *ends.Peer) {
	for {
		_, err := p.Next(ends.Limit)
		if err == nil {
			continue
		}
		t.Check(ends.Ended(err), "the connection did not end: %v", err)
		return
	}
}

func (t *T) note(name string, v any) { t.Notes[name] = v }

// disco is a packet that looks like one of the discovery protocol, of n bytes.
func disco(n int) []byte {
	b := make([]byte, n)
	copy(b, []byte{'T', 'S', 0xf0, 0x9f, 0x92, 0xac})
	return b
}

// data is n bytes that no other size or seed has.
func data(n, seed int) []byte {
	b, x := make([]byte, n), uint32(seed)*2654435761+uint32(n)+1
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}

func stranger() key.NodePublic { return key.NewNode().Public() }

// What a case needs of the servers.
const (
	mesh    = "mesh"
	port80  = "port80"
	udp     = "stun"
	pair    = "pair" // of servers that know nothing of each other
	echo    = "echo" // an end of ours
	two     = "two"
	refused = "refused" // by the server's admission
	slow    = "slow"    // takes as long as the server's timers
)

type testCase struct {
	needs string
	run   func(*T)
}

var cases = map[string]testCase{}

func add(needs, name string, run func(*T)) { cases[name] = testCase{needs, run} }

func list() {
	names := []string{}
	for n, c := range cases {
		names = append(names, fmt.Sprintf("%s %s", n, c.needs))
	}
	slices.Sort(names)
	for _, n := range names {
		fmt.Println(n)
	}
}

func run(name string, t *T) (said string) {
	defer func() {
		for _, f := range t.closers {
			f()
		}
		if e := recover(); e != nil {
			f, ok := e.(failure)
			if !ok {
				panic(e)
			}
			said = string(f)
		}
	}()
	cases[name].run(t)
	return ""
}

func main() {
	server := flag.String("server", "", "file that describes the server")
	other := flag.String("other", "", "the same of a second one")
	listed := flag.Bool("list", false, "list the cases and what they need")
	public := flag.String("public", "", "print the public key of this private key")
	flag.Parse()
	if *public != "" {
		k, err := key.ParseNodePrivateUntyped(mem.S(*public))
		if err != nil {
			panic(err)
		}
		fmt.Println(k.Public().UntypedHexString())
		return
	}
	if *listed {
		list()
		return
	}
	name := flag.Arg(0)
	t := &T{Notes: map[string]any{}}
	var err error
	if _, there := cases[name]; !there {
		err = fmt.Errorf("no case %q", name)
	} else if *server != "" {
		t.S, err = ends.Load(*server)
	}
	if err == nil && *other != "" {
		t.Other, err = ends.Load(*other)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "derpcheck:", err)
		os.Exit(2)
	}
	start := time.Now()
	said := run(name, t)
	line, _ := json.Marshal(map[string]any{"case": name, "ok": said == "", "said": said, "ms": time.Since(start).Milliseconds(), "notes": t.Notes})
	fmt.Println(string(line))
	if said != "" {
		os.Exit(1)
	}
}
