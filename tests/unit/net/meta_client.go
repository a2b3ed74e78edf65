// A client of another make, with Go's own TLS and X.509 alone: connects in TLS 1.2 and 1.3,
// offers no protocol, and believes the server as a DERP node with sha256-raw is believed.
// Arguments: HOST:PORT, the name to verify, HEX of the leaf, HEX of the DERP key.
package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"math/big"
	"os"
	"strings"
	"time"
)

func check(ok bool, what string, args ...interface{}) {
	if !ok {
		fmt.Printf(what+"\n", args...)
		os.Exit(1)
	}
}

func checkLeaf(leaf *x509.Certificate, host, wanted string) {
	sum := sha256.Sum256(leaf.Raw)
	check(hex.EncodeToString(sum[:]) == wanted, "another leaf: %x", sum)
	check(leaf.VerifyHostname(host) == nil, "not for %s: %v %v", host, leaf.DNSNames, leaf.IPAddresses)
	now := time.Now()
	check(now.After(leaf.NotBefore) && now.Before(leaf.NotAfter), "not valid now")
}

func checkMeta(meta *x509.Certificate, key string) {
	check(meta.Subject.String() == "CN=derpkey"+key && meta.Issuer.String() == meta.Subject.String(),
		"names %s, %s", meta.Subject, meta.Issuer)
	check(meta.Version == 3 && meta.SerialNumber.Cmp(big.NewInt(2)) == 0, "serial %v", meta.SerialNumber)
	check(meta.CheckSignature(x509.PureEd25519, meta.RawTBSCertificate, meta.Signature) == nil, "signature")
	check(len(meta.Extensions) == 1 && meta.Extensions[0].Critical &&
		meta.Extensions[0].Id.String() == "2.5.29.19" && bytes.Equal(meta.Extensions[0].Value, []byte{0x30, 0}),
		"extensions %v", meta.Extensions)
	check(meta.BasicConstraintsValid && !meta.IsCA && meta.SubjectKeyId == nil && meta.AuthorityKeyId == nil, "a CA")
	check(meta.NotAfter.Sub(meta.NotBefore) == 60*24*time.Hour, "%v to %v", meta.NotBefore, meta.NotAfter)
}

func main() {
	addr, host, leaf, key := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		conn, err := tls.Dial("tcp", addr, &tls.Config{ServerName: host, InsecureSkipVerify: true,
			MinVersion: version, MaxVersion: version})
		check(err == nil, "handshake: %v", err)
		state := conn.ConnectionState()
		n := len(state.PeerCertificates)
		check(state.NegotiatedProtocol == "", "protocol %s", state.NegotiatedProtocol)
		check(n == 2, "%d certificates", n)
		check(!strings.HasPrefix(state.PeerCertificates[0].Subject.CommonName, "derpkey"), "order")
		checkLeaf(state.PeerCertificates[0], host, leaf)
		checkMeta(state.PeerCertificates[1], key)
		conn.Close()
	}
	fmt.Println("met the server twice")
}
