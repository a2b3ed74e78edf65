// Command derpload puts load on a DERP server through Tailscale's own client, the same for every server:
//
//	derpload -server FILE -pairs 10 -size 1280 -window 16 -seconds 10   packets between pairs
//	derpload -server FILE -idle 2000                                   connections that say nothing, until it is killed
//
// It prints one line of JSON; with -idle a line when all are connected.
package main

import (
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
	seconds = flag.Float64("seconds", 10, "how long")
	warm    = flag.Float64("warm", 1, "seconds before that are not counted")
	idle    = flag.Int("idle", 0, "only open that many connections and hold them")
)

func fail(err error) {
	fmt.Fprintln(os.Stderr, "derpload:", err)
	os.Exit(1)
}

// client is connected, and has ServerInfo behind it.
func client(s ends.Server) *derphttp.Client {
	c, err := ends.Client(s, ends.Options{Key: key.NewNode()})
	if err == nil {
		_, err = c.Recv() // connects
	}
	if err != nil {
		fail(err)
	}
	return c
}

func clients(s ends.Server, n int) []*derphttp.Client {
	all, places := make([]*derphttp.Client, n), make(chan bool, 16)
	var done sync.WaitGroup
	for i := range all {
		places <- true
		done.Go(func() { all[i] = client(s); <-places })
	}
	done.Wait()
	return all
}

type pair struct {
	sent, received, bytes int64
	late                  []int64 // ns, of the counted ones
}

// load sends with a window: a place is free again when its packet came, or when it did not within a second.
func (p *pair) load(a, b *derphttp.Client, from, to time.Time) {
	places := make(chan bool, *window)
	var done sync.WaitGroup
	done.Go(func() {
		for {
			m, err := b.Recv()
			if err != nil {
				return // closed, at the end
			}
			pkt, ok := m.(derp.ReceivedPacket)
			if !ok {
				continue
			}
			now := time.Now()
			if at := int64(binary.LittleEndian.Uint64(pkt.Data)); at >= from.UnixNano() && at < to.UnixNano() {
				p.received++
				p.bytes += int64(len(pkt.Data))
				p.late = append(p.late, now.UnixNano()-at)
			}
			select {
			case <-places:
			default:
			}
		}
	})
	out, patience := make([]byte, *size), time.NewTimer(time.Second)
	for {
		select {
		case places <- true:
		default:
			patience.Reset(time.Second)
			select {
			case places <- true:
			case <-patience.C: // all of them are lost
				for len(places) > 0 {
					select {
					case <-places:
					default:
					}
				}
				continue
			}
		}
		now := time.Now()
		if !now.Before(to) {
			break
		}
		binary.LittleEndian.PutUint64(out, uint64(now.UnixNano()))
		if err := a.Send(b.SelfPublicKey(), out); err != nil {
			fail(err)
		}
		if !now.Before(from) {
			p.sent++
		}
	}
	select {
	case <-places: // the one that was not sent any more
	default:
	}
	for end := time.Now().Add(time.Second); len(places) > 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	a.Close()
	b.Close()
	done.Wait()
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

func hold(s ends.Server) {
	start := time.Now()
	all := clients(s, *idle)
	say(map[string]any{"idle": len(all), "connected_in_s": time.Since(start).Seconds()})
	for _, c := range all {
		go func() {
			for {
				if _, err := c.Recv(); err != nil {
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
	say(map[string]any{"connected": len(all)})
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
