package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"tailscale.com/types/key"

	"tunn/interop/derp/ends"
)

func init() {
	add(pair, "random_conversations_go_alike", alike)
}

// world is one server in a random conversation: what is done here is done there too.
type world struct {
	t     *T
	s     ends.Server
	keys  []key.NodePrivate
	names map[string]string // raw public key to its name, which both worlds share
	conns []*conn           // 0 watches; nil: ended
	past  []string          // what was done
}

type conn struct {
	*ends.Raw
	key   int
	mesh  bool
	heard []string        // since it was looked at
	told  map[string]bool // whom it was told to be gone: the original tells once
	disco int             // packets to nobody, which are answered three times in a burst
}

func newWorld(t *T, s ends.Server) *world {
	w := &world{t: t, s: s, names: map[string]string{string(make([]byte, 32)): "zero"}}
	for i := range 6 {
		w.keys = append(w.keys, key.NewNode())
		w.names[w.raw(i)] = fmt.Sprintf("k%d", i)
	}
	return w
}

func (w *world) backwards() string {
	past := slices.Clone(w.past)
	slices.Reverse(past)
	return strings.Join(past, "\n")
}

func (w *world) raw(k int) string { return string(w.keys[k].Public().AppendTo(nil)) }

func (w *world) name(b []byte) string {
	if n, ok := w.names[string(b)]; ok {
		return n
	}
	return fmt.Sprintf("%x", b)
}

func (w *world) join(k int, info string, mesh bool) {
	r, err := ends.Join(w.s, w.keys[k], info)
	w.t.Must(err, "%s: joining", w.s.Kind)
	w.t.closers = append(w.t.closers, func() { r.Close() })
	w.conns = append(w.conns, &conn{Raw: r, key: k, mesh: mesh, told: map[string]bool{}})
}

// hear notes a frame in words that do not depend on which server sent it.
func (w *world) hear(c *conn, kind byte, b []byte) {
	said := fmt.Sprintf("%#x %x", kind, b)
	switch {
	case kind == ends.RecvPacket && len(b) >= 32:
		said = fmt.Sprintf("packet from %s, %d bytes %x", w.name(b[:32]), len(b)-32, b[32:min(len(b), 50)])
	case kind == ends.PeerPresent && len(b) == 51:
		said = fmt.Sprintf("present %s %d", w.name(b[:32]), b[50])
		delete(c.told, fmt.Sprintf("gone %s 0", w.name(b[:32])))
	case kind == ends.PeerGone && len(b) == 33:
		said = fmt.Sprintf("gone %s %d", w.name(b[:32]), b[32])
		if b[32] == 0 && c.told[said] { // the original tells once, or, who watches and heard from it, twice
			return
		}
		c.told[said] = true
	}
	c.heard = append(c.heard, said)
}

// fence reads all that the server has to say to c. It counts as speaking, here as there.
func (w *world) fence(c *conn) (ended bool) {
	for i := range 3 {
		mark := string([]byte{0xfe, 'f', 'e', 'n', 'c', 'e', byte(i), 0})
		if c.Send(ends.Ping, []byte(mark)) != nil {
			return true
		}
		for {
			kind, b, err := c.Read1()
			if err != nil {
				w.t.Check(ends.Ended(err), "%s: k%d is not answered: %v; before:\n%s", w.s.Kind, c.key, err, w.backwards())
				return true
			}
			if kind == ends.Pong && string(b) == mark {
				break
			}
			w.hear(c, kind, b)
		}
	}
	return false
}

// ping reads up to the answer, as one answer waits at a time.
func (w *world) ping(c *conn, payload []byte) {
	w.t.Must(c.Send(ends.Ping, payload), "ping")
	for kind := byte(0); kind != ends.Pong; {
		var b []byte
		var err error
		kind, b, err = c.Read1()
		w.t.Must(err, "%s: pong", w.s.Kind)
		w.hear(c, kind, b)
	}
}

// gone waits until the watcher was told that this key is gone.
func (w *world) gone(k int) {
	want := fmt.Sprintf("gone k%d 0", k)
	for !slices.Contains(w.conns[0].heard, want) {
		kind, b, err := w.conns[0].Read1()
		w.t.Must(err, "%s: waiting for %s, heard %q", w.s.Kind, want, w.conns[0].heard)
		w.hear(w.conns[0], kind, b)
	}
}

func (w *world) end(i int) {
	w.conns[i].Close()
	w.conns[i] = nil
}

// did is what everybody heard; packets stay in their order, by queue, and everything else is a set.
func (w *world) did() string {
	all := strings.Builder{}
	for i, c := range w.conns {
		if c == nil {
			continue
		}
		slices.SortStableFunc(c.heard, func(a, b string) int { return strings.Compare(class(a), class(b)) })
		fmt.Fprintf(&all, "%d: %s\n", i, strings.Join(c.heard, "; "))
	}
	return all.String()
}

func class(said string) string {
	if !strings.HasPrefix(said, "packet") {
		return said
	}
	if strings.Contains(said, " 5453f09f92ac") {
		return "packet, disco"
	}
	return "packet, other"
}

// step is one thing done in a world; all its choices are made.
type step struct {
	text string
	do   func(w *world)
	ends []int // connections that end by it
	key  int   // whose last connection that is, or -1
}

func (w *world) step(s step, actor int) {
	w.past = append(w.past, s.text)
	s.do(w)
	for _, i := range s.ends {
		if c := w.conns[i]; c != nil {
			for {
				kind, b, err := c.Read1()
				if err != nil {
					w.t.Check(ends.Ended(err), "%s: %s: connection %d is still there: %v", w.s.Kind, s.text, i, err)
					break
				}
				w.hear(c, kind, b)
			}
			w.end(i)
		}
	}
	if s.key >= 0 {
		w.gone(s.key)
	}
	w.fences(actor)
}

func (w *world) fences(actor int) {
	for _, i := range append([]int{actor}, order(len(w.conns))...) {
		if c := w.conns[i]; c != nil {
			w.t.Check(!w.fence(c), "%s: connection %d ended, after, the last first,\n%s", w.s.Kind, i, w.backwards())
		}
	}
}

func order(n int) (all []int) {
	for i := range n {
		all = append(all, i)
	}
	return all
}

// choose makes a step that suits the state, which is the same in both worlds.
func choose(rnd *rand.Rand, w *world) (step, int) {
	live := []int{}
	of := map[int]int{}
	for i, c := range w.conns {
		if c != nil {
			of[c.key]++
			if i > 0 {
				live = append(live, i)
			}
		}
	}
	if len(live) == 0 || len(live) < 6 && rnd.IntN(6) == 0 {
		k := 1 + rnd.IntN(4)
		info, mesh := plain, false
		switch rnd.IntN(4) {
		case 0:
			info, mesh = w.t.meshInfo(w.s.Mesh), true
		case 1:
			info = `{"IsProber":true}`
		}
		return step{text: fmt.Sprintf("k%d joins with %s", k, info), key: -1, do: func(w *world) { w.join(k, info, mesh) }}, 0
	}
	i := live[rnd.IntN(len(live))]
	c := w.conns[i]
	only := of[c.key] == 1
	to := rnd.IntN(6) // 5 is never there, 0 is the watcher
	from := 1 + rnd.IntN(5)
	for of[from] == 0 && from != 5 { // the original remembers having heard of who came later
		from = 1 + rnd.IntN(5)
	}
	n, looks := []int{0, 1, 61, 62, 100, 1400, 20000, 65536}[rnd.IntN(8)], rnd.IntN(3) == 0
	pkt := data(n, rnd.IntN(1000))
	if looks && n >= 62 {
		copy(pkt, disco(6))
	}
	absent := looks && n >= 62 && of[to] == 0
	s := step{key: -1}
	send := func(kind byte, payload func(w *world) [][]byte) func(*world) {
		return func(w *world) { w.conns[i].Send(kind, payload(w)...) } // it may be gone before it is all written
	}
	fatal := func(kind byte, payload ...[]byte) step {
		s.text = fmt.Sprintf("%d (k%d) says %#x wrongly", i, c.key, kind)
		s.ends, s.key = []int{i}, c.key
		s.do = send(kind, func(*world) [][]byte { return payload })
		return s
	}
	switch pick := rnd.IntN(20); {
	case pick < 8:
		if absent {
			if c.disco == 3 {
				break
			}
			c.disco++
		}
		s.text = fmt.Sprintf("%d (k%d) sends %d bytes to k%d, disco %v", i, c.key, n, to, looks)
		s.do = send(ends.SendPacket, func(w *world) [][]byte { return [][]byte{[]byte(w.raw(to)), pkt} })
		return s, i
	case pick < 10 && !absent:
		many := 1 + rnd.IntN(30)
		s.text = fmt.Sprintf("%d (k%d) sends %d packets to k%d", i, c.key, many, to)
		s.do = func(w *world) {
			out := []byte{}
			for j := range many {
				out = append(out, ends.FrameBytes(ends.SendPacket, []byte(w.raw(to)), data(10+j, j))...)
			}
			w.conns[i].Write(out)
		}
		return s, i
	case pick == 10 && only:
		s.text = fmt.Sprintf("%d (k%d) leaves", i, c.key)
		s.key = c.key
		s.do = func(w *world) { w.end(i) }
		return s, 0
	case pick == 11:
		size := 8 + rnd.IntN(993)
		s.text = fmt.Sprintf("%d (k%d) pings with %d bytes", i, c.key, size)
		s.do = func(w *world) { w.ping(w.conns[i], data(size, 1)) }
		return s, i
	case pick == 12:
		kind := []byte{0x00, 0x01, 0x02, 0x03, 0x05, 0x06, 0x08, 0x09, 0x13, 0x14, 0x15, 0x42, 0xff}[rnd.IntN(13)]
		s.text = fmt.Sprintf("%d (k%d) says %#x", i, c.key, kind)
		s.do = func(w *world) { w.conns[i].Send(kind, pkt) }
		return s, i
	case pick == 13:
		s.text = fmt.Sprintf("%d (k%d) prefers", i, c.key)
		s.do = func(w *world) { w.conns[i].Send(ends.NotePreferred, []byte{byte(n)}) }
		return s, i
	case pick < 17 && c.mesh:
		switch {
		case pick == 14 || absent && c.disco == 3:
			s.text = fmt.Sprintf("%d (k%d) watches", i, c.key)
			s.do = send(ends.WatchConns, func(*world) [][]byte { return nil })
		case pick == 15 && to != 0:
			s.text = fmt.Sprintf("%d (k%d) closes k%d", i, c.key, to)
			for j, other := range w.conns {
				if other != nil && other.key == to {
					s.ends, s.key = append(s.ends, j), to
				}
			}
			s.do = send(ends.ClosePeer, func(w *world) [][]byte { return [][]byte{[]byte(w.raw(to))} })
		default:
			if absent {
				c.disco++
			}
			s.text = fmt.Sprintf("%d (k%d) forwards %d bytes from k%d to k%d, disco %v", i, c.key, n, from, to, looks)
			s.do = send(ends.ForwardPacket, func(w *world) [][]byte { return [][]byte{[]byte(w.raw(from)), []byte(w.raw(to)), pkt} })
		}
		return s, i
	case pick == 17 && only && !c.mesh:
		kind := []byte{ends.WatchConns, ends.ClosePeer, ends.ForwardPacket}[rnd.IntN(3)]
		return fatal(kind, make([]byte, map[byte]int{ends.WatchConns: 0, ends.ClosePeer: 32, ends.ForwardPacket: 64}[kind])), 0
	case pick == 18 && only:
		f := []badFrame{{ends.SendPacket, 31}, {ends.SendPacket, 32 + 65537}, {ends.NotePreferred, 0}, {ends.NotePreferred, 2}, {ends.Ping, 7},
			{ends.Ping, 1001}, {ends.WatchConns, 1}, {ends.ClosePeer, 31}, {ends.ForwardPacket, 63}}[rnd.IntN(9)]
		return fatal(f.kind, make([]byte, f.n)), 0
	}
	s.text, s.do = "nothing", func(*world) {}
	return s, i
}

// alike holds random conversations with both servers at once, and compares what everybody hears.
func alike(t *T) {
	seed, _ := strconv.ParseUint(os.Getenv("TUNN_SEED"), 10, 64)
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.note("seed", seed)
	steps := 0
	for round := range 25 {
		rnd := rand.New(rand.NewPCG(seed, uint64(round)))
		worlds := []*world{newWorld(t, t.S), newWorld(t, t.Other)}
		for _, w := range worlds {
			w.join(0, t.meshInfo(t.S.Mesh), true)
			t.Must(w.conns[0].Send(ends.WatchConns), "watching")
			for len(w.conns[0].heard) == 0 {
				t.Check(!w.fence(w.conns[0]), "%s: the watcher ended", w.s.Kind)
			}
			w.conns[0].heard = nil
		}
		for range 60 {
			s, actor := choose(rnd, worlds[0])
			for i, w := range worlds[1:] {
				for j, c := range w.conns { // what choose counted
					if c != nil {
						worlds[i+1].conns[j].disco = worlds[0].conns[j].disco
					}
				}
			}
			for _, w := range worlds {
				w.step(s, actor)
			}
			for try := 0; worlds[0].did() != worlds[1].did(); try++ {
				t.Check(try < 20, "seed %d, round %d: %s heard\n%s%s heard\n%safter, the last first,\n%s", seed, round, worlds[0].s.Kind,
					worlds[0].did(), worlds[1].s.Kind, worlds[1].did(), worlds[0].backwards())
				for _, w := range worlds { // some things derper tells by tasks of their own
					w.fences(actor)
				}
			}
			for _, w := range worlds {
				for _, c := range w.conns {
					if c != nil {
						c.heard = nil
					}
				}
			}
			steps++
		}
		for _, w := range worlds { // those who leave are seen to leave, before the next
			for i, c := range w.conns {
				if c != nil {
					w.end(i)
				}
			}
		}
	}
	t.note("steps", steps)
}
