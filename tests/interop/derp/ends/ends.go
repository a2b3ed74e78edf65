// Package ends has the two kinds of client that the programs beside it use: Tailscale's own, and a
// bare one that says on the wire just what a case wants said.
package ends

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"tailscale.com/derp"
	"tailscale.com/derp/derphttp"
	"tailscale.com/net/netmon"
	"tailscale.com/tailcfg"
	"tailscale.com/types/key"
	"tailscale.com/types/logger"
)

// Server is what a test says about the server it started.
type Server struct {
	Kind string // "derper" or "tunn"
	Host string // an address of loopback that no other server has
	Port int
	STUN int    // 0: none
	HTTP int    // plain HTTP; 0: none
	Pin  string // SHA-256 of the leaf, hex
	Mesh string // mesh key, hex; "": none
}

// Load reads what the test wrote.
func Load(path string) (s Server, err error) {
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	return s, err
}

// Addr is where it listens for TLS.
func (s Server) Addr() string { return fmt.Sprintf("%s:%d", s.Host, s.Port) }

// Node is its entry in a DERP map: pinned, by address.
func (s Server) Node(name string, region int) *tailcfg.DERPNode {
	n := &tailcfg.DERPNode{Name: name, RegionID: region, HostName: s.Host, IPv4: s.Host, IPv6: "none",
		CertName: "sha256-raw:" + s.Pin, DERPPort: s.Port, STUNPort: s.STUN}
	if s.STUN == 0 {
		n.STUNPort = -1
	}
	return n
}

// Region is the region that has this server alone.
func (s Server) Region() *tailcfg.DERPRegion {
	return &tailcfg.DERPRegion{RegionID: 900, RegionCode: "test", RegionName: "test", Nodes: []*tailcfg.DERPNode{s.Node("900a", 900)}}
}

// Peer is Tailscale's client with a task that keeps receiving.
type Peer struct {
	C     *derphttp.Client
	Key   key.NodePrivate
	Pub   key.NodePublic
	In    chan any // a message whose bytes are its own, or an error: the last thing
	gate  sync.Mutex
	froze bool
}

// Options of a peer; all may be left out.
type Options struct {
	Key    key.NodePrivate
	Mesh   string
	Prober bool
	Watch  bool
	URL    string // instead of a region client
	Region *tailcfg.DERPRegion
	Logf   logger.Logf
	Change func(*derphttp.Client) // before it connects
}

// Client makes the client, not connected yet.
func Client(s Server, o Options) (*derphttp.Client, error) {
	if o.Logf == nil {
		o.Logf = logger.Discard
	}
	var c *derphttp.Client
	if o.URL != "" {
		var err error
		if c, err = derphttp.NewClient(o.Key, o.URL, o.Logf, netmon.NewStatic()); err != nil {
			return nil, err
		}
	} else {
		region := o.Region
		if region == nil {
			region = s.Region()
		}
		c = derphttp.NewRegionClient(o.Key, o.Logf, netmon.NewStatic(), func() *tailcfg.DERPRegion { return region })
	}
	if o.Mesh != "" {
		mesh, err := key.ParseDERPMesh(o.Mesh)
		if err != nil {
			return nil, err
		}
		c.MeshKey = mesh
	}
	c.IsProber, c.WatchConnectionChanges = o.Prober, o.Watch
	c.SetCanAckPings(true)
	if o.Change != nil {
		o.Change(c)
	}
	return c, nil
}

// Dial connects, requires ServerInfo to be the first message, and begins to receive.
func Dial(s Server, o Options) (*Peer, error) {
	if o.Key.IsZero() {
		o.Key = key.NewNode()
	}
	c, err := Client(s, o)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := c.Connect(ctx); err != nil {
		c.Close()
		return nil, err
	}
	m, err := c.Recv()
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("before ServerInfo: %w", err)
	}
	info, ok := m.(derp.ServerInfoMessage)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("the first message was %T", m)
	}
	if info != (derp.ServerInfoMessage{}) {
		c.Close()
		return nil, fmt.Errorf("ServerInfo announces a rate: %+v", info)
	}
	p := &Peer{C: c, Key: o.Key, Pub: o.Key.Public(), In: make(chan any, 1<<16)}
	go p.receive()
	return p, nil
}

func (p *Peer) receive() {
	for {
		p.gate.Lock() // held while frozen
		p.gate.Unlock()
		m, err := p.C.Recv()
		if err != nil {
			p.In <- err
			return
		}
		if pkt, ok := m.(derp.ReceivedPacket); ok {
			pkt.Data = append([]byte{}, pkt.Data...)
			m = pkt
		}
		p.In <- m
	}
}

// Freeze stops the reader, after at most one more message.
func (p *Peer) Freeze() { p.gate.Lock(); p.froze = true }

// Thaw lets it go on.
func (p *Peer) Thaw() { p.froze = false; p.gate.Unlock() }

// ErrLate is what Next gives when nothing came.
var ErrLate = errors.New("nothing came")

// Next gives the next message, or the error that ended the connection.
func (p *Peer) Next(limit time.Duration) (any, error) {
	select {
	case m := <-p.In:
		if err, ok := m.(error); ok {
			p.In <- err // it stays the last thing
			return nil, err
		}
		return m, nil
	case <-time.After(limit):
		return nil, ErrLate
	}
}

// Ended says whether this error means that the server let the connection go.
func Ended(err error) bool {
	return err != nil && !errors.Is(err, ErrLate) && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || isReset(err))
}
