package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"embed"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"text/template"
	"time"
)

//go:embed all:files
var files embed.FS

// render writes an embedded file with the cluster's addresses into the state directory.
func (c *cluster) render(name string) (string, error) {
	parsed, err := template.ParseFS(files, "files/"+name)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	path := c.file(name)
	target, err := os.Create(path) //nolint:gosec // our own directory
	if err != nil {
		return "", fmt.Errorf("write %s: %w", name, err)
	}
	defer func() { _ = target.Close() }()
	err = parsed.Execute(target, map[string]string{
		"State": c.state, "Node": nodeAddress, "Name": nodeName, "Registry": registry,
		"Pods": podNetwork, "Token": adminToken,
	})
	if err != nil {
		return "", fmt.Errorf("write %s: %w", name, err)
	}
	return path, nil
}

func (c *cluster) startControlPlane(ctx context.Context) error {
	for _, directory := range []string{"processes", "log", "pki", "network", "registries/_default"} {
		if err := os.MkdirAll(c.file(directory), 0o755); err != nil {
			return fmt.Errorf("create the state directory: %w", err)
		}
	}
	if err := c.makeKeys(); err != nil {
		return err
	}
	for _, name := range []string{"kubeconfig", "tokens.csv", "audit.yaml"} {
		if _, err := c.render(name); err != nil {
			return err
		}
	}
	const etcd = "http://127.0.0.1:2379"
	err := c.start(ctx, "etcd", answers("127.0.0.1:2379"), c.bin("etcd"),
		"--data-dir", c.file("etcd"), "--listen-client-urls", etcd, "--advertise-client-urls", etcd,
		"--listen-peer-urls", "http://127.0.0.1:2380", "--unsafe-no-fsync", "--log-level", "warn")
	if err != nil {
		return err
	}
	err = c.start(ctx, "kube-apiserver", func(ctx context.Context) error {
		return c.quiet(ctx, c.state, c.bin("kubectl"), "get", "--raw", "/readyz")
	}, c.bin("kube-apiserver"),
		"--etcd-servers", etcd, "--service-cluster-ip-range", serviceNetwork,
		"--bind-address", "0.0.0.0", "--advertise-address", nodeAddress, "--secure-port", "6443",
		"--tls-cert-file", "pki/api.crt", "--tls-private-key-file", "pki/api.key",
		"--token-auth-file", "tokens.csv", "--authorization-mode", "RBAC",
		"--service-account-issuer", "https://kubernetes.default.svc",
		"--service-account-key-file", "pki/accounts.crt", "--service-account-signing-key-file", "pki/accounts.key",
		"--allow-privileged",
		"--audit-policy-file", "audit.yaml", "--audit-log-path", filepath.Join("log", "audit.json"), "--audit-log-maxsize", "1000",
		// Otherwise kubectl logs resolves the node's name.
		"--kubelet-preferred-address-types", "InternalIP")
	if err != nil {
		return err
	}
	err = c.start(ctx, "kube-controller-manager", nil, c.bin("kube-controller-manager"),
		"--kubeconfig", c.kubeconfig(), "--service-account-private-key-file", "pki/accounts.key",
		"--root-ca-file", "pki/ca.crt", "--use-service-account-credentials", "--leader-elect=false",
		"--allocate-node-cidrs=false", "--kube-api-qps", "100", "--kube-api-burst", "200")
	if err != nil {
		return err
	}
	return c.start(ctx, "kube-scheduler", nil, c.bin("kube-scheduler"),
		"--kubeconfig", c.kubeconfig(), "--leader-elect=false")
}

func (c *cluster) startNode(ctx context.Context) error {
	rendered := map[string]string{}
	for _, name := range []string{"containerd.toml", "registries/_default/hosts.toml", "network/10-job-executor.conflist",
		"kubelet.yaml", "kube-proxy.yaml", "resolv.conf", "Corefile"} {
		path, err := c.render(name)
		if err != nil {
			return err
		}
		rendered[name] = path
	}
	err := c.start(ctx, "containerd", func(context.Context) error {
		_, err := os.Stat(c.file("containerd.sock"))
		return err
	}, "containerd", "--config", rendered["containerd.toml"])
	if err != nil {
		return err
	}
	err = c.start(ctx, "kubelet", func(ctx context.Context) error {
		return c.quiet(ctx, c.state, c.bin("kubectl"), "wait", "--for=condition=Ready", "--timeout=5s", "node/"+nodeName)
	}, c.bin("kubelet"),
		"--config", rendered["kubelet.yaml"], "--kubeconfig", c.kubeconfig(),
		"--hostname-override", nodeName, "--node-ip", nodeAddress,
		"--root-dir", c.file("kubelet"), "--cert-dir", c.file("kubelet-pki"))
	if err != nil {
		return err
	}
	if err := c.start(ctx, "kube-proxy", nil, c.bin("kube-proxy"), "--config", rendered["kube-proxy.yaml"]); err != nil {
		return err
	}
	// kube-router only enforces NetworkPolicies here.
	err = c.start(ctx, "kube-router", func(ctx context.Context) error {
		_, err := c.inNetwork(ctx, "iptables", "-S", "KUBE-ROUTER-INPUT")
		return err
	}, c.bin("kube-router"), "--run-firewall", "--run-router=false", "--run-service-proxy=false", "--enable-cni=false",
		"--kubeconfig", c.kubeconfig(), "--hostname-override", nodeName, "--service-cluster-ip-range", serviceNetwork,
		"--health-port=0", "--metrics-port=0")
	if err != nil {
		return err
	}
	return c.start(ctx, "coredns", answers(nodeAddress+":53"), c.bin("coredns"), "-conf", rendered["Corefile"])
}

// answers returns a check that something listens at an address.
func answers(address string) func(context.Context) error {
	return func(ctx context.Context) error {
		dialer := net.Dialer{Timeout: time.Second}
		connection, err := dialer.DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return connection.Close()
	}
}

const keysAreValidFor = 10 * 365 * 24 * time.Hour

// makeKeys makes a certificate authority, the API server's certificate and the
// key that signs service account tokens.
func (c *cluster) makeKeys() error {
	if _, err := os.Stat(c.file("pki/api.crt")); err == nil {
		return nil
	}
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "job-executor-test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(keysAreValidFor),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	authorityKey, err := c.makeKey("ca", authority, authority, nil)
	if err != nil {
		return err
	}
	accounts := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "service-accounts"}, NotAfter: authority.NotAfter}
	if _, err := c.makeKey("accounts", accounts, authority, authorityKey); err != nil {
		return err
	}
	_, err = c.makeKey("api", &x509.Certificate{
		SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "kube-apiserver"},
		NotBefore: authority.NotBefore, NotAfter: authority.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost"},
		IPAddresses: []net.IP{net.ParseIP("127.0.0.1"), net.ParseIP(firstService), net.ParseIP(nodeAddress)},
	}, authority, authorityKey)
	return err
}

func (c *cluster) makeKey(name string, certificate, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("create a key: %w", err)
	}
	if parentKey == nil {
		parentKey = key
	}
	signed, err := x509.CreateCertificate(rand.Reader, certificate, parent, &key.PublicKey, parentKey)
	if err != nil {
		return nil, fmt.Errorf("create a certificate: %w", err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode a key: %w", err)
	}
	for ending, block := range map[string]*pem.Block{
		".key": {Type: "PRIVATE KEY", Bytes: encoded}, ".crt": {Type: "CERTIFICATE", Bytes: signed},
	} {
		path := filepath.Join(c.state, "pki", name+ending)
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			return nil, fmt.Errorf("write a key: %w", err)
		}
	}
	return key, nil
}
