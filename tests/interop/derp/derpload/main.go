// Command derpload puts load on a DERP server through Tailscale's own client, the same for every server:
//
//	derpload -server FILE -pairs 10 -size 1280 -window 16 -seconds 10   packets between pairs
//	derpload -server FILE -idle 2000                                   connections that say nothing, until it is killed
//
// With -bare the packets go through a client of our own, which writes all that the window leaves room for at once and so
// costs less than a tenth of the real one's time. It prints a line of JSON when all are connected, and one at the end.
package main

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"tailscale.com/derp"
	"tailscale.com/derp/derphttp"
	"tailscale.com/types/key"

	"tunn/interop/derp/ends"
)

var (
	server  = flag.String("server", "", "file that describes the server")
	pairs   = flag.Int("pairs", 10, "pairs; in each one sends and one answers for every packet")
	size    = flag.Int("size", 1280, "bytes of a packet, 8 or more")
	window  = flag.Int("window", 16, "packets of a pair on the way at a time; over 30 some are lost")
	rate    = flag.Float64("rate", 0, "packets a second of each pair; 0: as many as the window allows")
	seconds = flag.Float64("seconds", 10, "how long")
	warm    = flag.Float64("warm", 1, "seconds before that are not counted")
	bare    = flag.Bool("bare", false, "a cheaper client than Tailscale's")
	idle    = flag.Int("idle", 0, "only open that many connections and hold them")
)

func fail(err error) {
	fmt.Fprintln(os.Stderr, "derpload:", err)
	os.Exit(1)
}

// end is one connection, with ServerInfo behind it.
type end interface {
	key() key.NodePublic
	tls() *tls.ConnectionState
	send(to key.NodePublic, pkts [][]byte) error
	next() ([]byte, error) // the next packet, until the one after
	close()
}

type realEnd struct{ c *derphttp.Client }

func (e realEnd) key() key.NodePublic { return e.c.SelfPublicKey() }
func (e realEnd) close()              { e.c.Close() }
func (e realEnd) tls() *tls.ConnectionState {
	s, _ := e.c.TLSConnectionState()
	return s
}
func (e realEnd) send(to key.NodePublic, pkts [][]byte) error {
	for _, p := range pkts {
		if err := e.c.Send(to, p); err != nil {
			return err
		}
	}
	return nil
}
func (e realEnd) next() ([]byte, error) {
	for {
		m, err := e.c.Recv()
		if pkt, ok := m.(derp.ReceivedPacket); ok || err != nil {
			return pkt.Data, err
		}
	}
}

type bareEnd struct {
	r    *ends.Raw
	out  []byte
	used int // of the reader's buffer, by the packet given last
}

func (e *bareEnd) key() key.NodePublic { return e.r.Pub }
func (e *bareEnd) close()              { e.r.Close() }
func (e *bareEnd) tls() *tls.ConnectionState {
	s := e.r.TLS.ConnectionState()
	return &s
}
func (e *bareEnd) send(to key.NodePublic, pkts [][]byte) error {
	e.out = e.out[:0]
	for _, p := range pkts {
		e.out = append(e.out, ends.SendPacket)
		e.out = binary.BigEndian.AppendUint32(e.out, uint32(32+len(p)))
		e.out = append(to.AppendTo(e.out), p...)
	}
	_, err := e.r.Write(e.out)
	return err
}
func (e *bareEnd) next() ([]byte, error) {
	for {
		e.r.R.Discard(e.used)
		head, err := e.r.R.Peek(5)
		if err != nil {
			return nil, err
		}
		kind := head[0]
		e.used = 5 + int(binary.BigEndian.Uint32(head[1:]))
		frame, err := e.r.R.Peek(e.used)
		if err != nil {
			return nil, err
		}
		if kind == ends.RecvPacket {
			return frame[37:], nil
		}
	}
}

func connect(s ends.Server) end {
	if *bare {
		r, err := ends.Join(s, key.NodePrivate{}, `{"version":2,"CanAckPings":false}`)
		if err != nil {
			fail(err)
		}
		r.R = bufio.NewReaderSize(r.R, 1<<17)
		r.SetDeadline(time.Time{})
		return &bareEnd{r: r}
	}
	c, err := ends.Client(s, ends.Options{Key: key.NewNode()})
	if err == nil {
		_, err = c.Recv() // connects
	}
	if err != nil {
		fail(err)
	}
	return realEnd{c}
}

func clients(s ends.Server, n int) []end {
	all, places := make([]end, n), make(chan bool, 8) // fewer than a relay lets in of one address at a time
	var done sync.WaitGroup
	for i := range all {
		places <- true
		done.Go(func() { all[i] = connect(s); <-places })
	}
	done.Wait()
	return all
}

type pair struct {
	sent, received, bytes int64
	late                  []int64 // ns, of the counted ones
}

// load sends with a window: a place is free again when its packet came, or when none did for a second.
func (p *pair) load(a, b end, from, to time.Time) {
	places := make(chan bool, *window)
	var done sync.WaitGroup
	done.Go(func() { p.receive(b, places, from, to) })
	batch, patience := make([][]byte, *window), time.NewTimer(time.Second)
	for i := range batch {
		batch[i] = make([]byte, *size)
	}
	for next := time.Now(); ; {
		if *rate > 0 {
			next = next.Add(time.Duration(float64(time.Second) / *rate))
			time.Sleep(time.Until(next))
		}
		if !take(places, patience) {
			continue
		}
		now, n := time.Now(), 1
		if !now.Before(to) {
			break
		}
		for *bare && *rate == 0 && n < len(batch) && take(places, nil) {
			n++
		}
		for _, pkt := range batch[:n] {
			binary.LittleEndian.PutUint64(pkt, uint64(now.UnixNano()))
		}
		if err := a.send(b.key(), batch[:n]); err != nil {
			fail(err)
		}
		if !now.Before(from) {
			p.sent += int64(n)
		}
	}
	give(places) // the one that was not sent any more
	for end := time.Now().Add(time.Second); len(places) > 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	a.close()
	b.close()
	done.Wait()
}

func (p *pair) receive(b end, places chan bool, from, to time.Time) {
	for {
		pkt, err := b.next()
		if err != nil {
			return // closed, at the end
		}
		now := time.Now().UnixNano()
		if at := int64(binary.LittleEndian.Uint64(pkt)); at >= from.UnixNano() && at < to.UnixNano() {
			p.received++
			p.bytes += int64(len(pkt))
			p.late = append(p.late, now-at)
		}
		give(places)
	}
}

// take takes a place; with patience it waits for one, and when none becomes free all packets on the way count as lost.
func take(places chan bool, patience *time.Timer) bool {
	select {
	case places <- true:
		return true
	default:
	}
	if patience == nil {
		return false
	}
	patience.Reset(time.Second)
	select {
	case places <- true:
		return true
	case <-patience.C:
		for range cap(places) {
			give(places)
		}
		return false
	}
}

func give(places chan bool) {
	select {
	case <-places:
	default:
	}
}

func cpu() float64 {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}

func say(v map[string]any) {
	line, _ := json.Marshal(v)
	fmt.Println(string(line))
}

func negotiated(e end) string {
	s := e.tls()
	return fmt.Sprintf("%s, %s, %s", tls.VersionName(s.Version), tls.CipherSuiteName(s.CipherSuite), s.CurveID)
}

func hold(s ends.Server) {
	start := time.Now()
	all := clients(s, *idle)
	say(map[string]any{"idle": len(all), "connected_in_s": time.Since(start).Seconds()})
	for _, c := range all {
		go func() {
			for {
				if _, err := c.next(); err != nil {
					fail(fmt.Errorf("an idle connection ended: %w", err))
				}
			}
		}()
	}
	select {}
}

func main() {
	flag.Parse()
	s, err := ends.Load(*server)
	if err != nil {
		fail(err)
	}
	if *idle > 0 {
		hold(s)
	}
	all := clients(s, 2**pairs)
	begin := time.Now()
	from := begin.Add(time.Duration(*warm * float64(time.Second)))
	to := from.Add(time.Duration(*seconds * float64(time.Second)))
	results := make([]pair, *pairs)
	say(map[string]any{"connected": len(all), "tls": negotiated(all[0])})
	before := cpu()
	var done sync.WaitGroup
	for i := range results {
		done.Go(func() { results[i].load(all[2*i], all[2*i+1], from, to) })
	}
	done.Wait()
	spent := cpu() - before
	sum, late := pair{}, []int64{}
	for _, p := range results {
		sum.sent, sum.received, sum.bytes = sum.sent+p.sent, sum.received+p.received, sum.bytes+p.bytes
		late = append(late, p.late...)
	}
	slices.Sort(late)
	at := func(q float64) float64 {
		if len(late) == 0 {
			return 0
		}
		return float64(late[min(len(late)-1, int(q*float64(len(late))))]) / 1e3
	}
	say(map[string]any{"pairs": *pairs, "size": *size, "window": *window, "seconds": *seconds, "sent": sum.sent, "received": sum.received,
		"lost": sum.sent - sum.received, "packets_per_s": float64(sum.received) / *seconds, "MB_per_s": float64(sum.bytes) / 1e6 / *seconds,
		"p50_us": at(0.5), "p99_us": at(0.99), "max_us": at(1), "client_cpu_s": spent})
}
