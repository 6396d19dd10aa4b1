package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The broker's users. The brokers' own, and who comes by the open port, may do
// everything.
const (
	kafkaAdmin = "operator"
	kafkaGuest = "guest" // may use topics, and make none
	kafkaPass  = "pass word"
)

// secureBroker is a real broker with passwords and certificates, of this test alone:
//
//	port      open; its guests are super users
//	port + 2  TLS and a password: PLAIN, SCRAM
//	port + 3  TLS with a certificate of the client's
type secureBroker struct {
	open, sasl, mutual string
	authority          *authority
	admin              *kadm.Client
}

func startSecureBroker(t *testing.T) *secureBroker {
	t.Helper()
	if os.Getenv("SLUICE_TEST_NO_KAFKA") == "1" {
		t.Skip("SLUICE_TEST_NO_KAFKA=1")
	}
	a := newAuthority(t)
	cert, key := a.issue("broker")
	chain, _ := os.ReadFile(cert)
	private, _ := os.ReadFile(key)
	store := a.write("broker.pem", append(private, chain...))
	port := freePorts(t, 4)
	at := func(n int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port+n)) }
	b := &secureBroker{open: at(0), sasl: at(2), mutual: at(3), authority: a}

	jaas := fmt.Sprintf(`org.apache.kafka.common.security.plain.PlainLoginModule required user_%s="%s" user_%s="%s";`, kafkaAdmin, kafkaPass, kafkaGuest, kafkaPass)
	properties := a.write("more.properties", fmt.Appendf(nil, `
listeners=PLAINTEXT://%s,CONTROLLER://%s,SASL_SSL://%s,SSL://%s
advertised.listeners=PLAINTEXT://%[1]s,SASL_SSL://%[3]s,SSL://%[4]s
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL
ssl.keystore.type=PEM
ssl.keystore.location=%s
ssl.truststore.type=PEM
ssl.truststore.location=%s
listener.name.ssl.ssl.client.auth=required
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl_ssl.plain.sasl.jaas.config=%s
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:%s;User:CN=sluice
`, at(0), at(1), at(2), at(3), store, a.file, jaas, kafkaAdmin))
	script := func(name string) error {
		cmd := exec.Command(filepath.Join("..", "..", "deploy", "kafka", name))
		cmd.Env = append(os.Environ(), fmt.Sprintf("SLUICE_KAFKA_PORT=%d", port), "SLUICE_KAFKA_PROPERTIES="+properties, "SLUICE_KAFKA_DATA="+filepath.Join(a.dir, "kafka"))
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("deploy/kafka/%s: %w: %s", name, err, out)
		}
		return nil
	}
	t.Cleanup(func() {
		if err := script("down"); err != nil {
			t.Error(err)
		}
	})
	if err := script("up"); err != nil {
		t.Fatal(err)
	}

	client, err := kgo.NewClient(kgo.SeedBrokers(b.open))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	b.admin = kadm.NewClient(client)
	for _, m := range []kadm.ScramMechanism{kadm.ScramSha256, kadm.ScramSha512} {
		user := kadm.UpsertSCRAM{User: kafkaAdmin, Mechanism: m, Iterations: 4096, Password: kafkaPass}
		done, err := b.admin.AlterUserSCRAMs(t.Context(), nil, []kadm.UpsertSCRAM{user})
		if err == nil {
			err = done.Error()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// freePorts gives the first of n ports in a row that are free. They lie below
// those that the system gives to whoever dials, so they are so for a while.
func freePorts(t *testing.T, n int) int {
	t.Helper()
	for range 100 {
		first := 20000 + rand.IntN(10000)
		free := true
		for port := first; port < first+n && free; port++ {
			ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
			if free = err == nil; free {
				ln.Close()
			}
		}
		if free {
			return first
		}
	}
	t.Fatal("no ports are free")
	return 0
}

// allowGuest lets the guest do this with topics and groups of the prefix.
func (b *secureBroker) allowGuest(t *testing.T, prefix string, may ...kadm.ACLOperation) {
	t.Helper()
	acl := kadm.NewACLs().Topics(prefix).Groups(prefix).ResourcePatternType(kadm.ACLPatternPrefixed).
		Operations(may...).Allow("User:" + kafkaGuest).AllowHosts()
	done, err := b.admin.CreateACLs(t.Context(), acl)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range done {
		if one.Err != nil {
			t.Fatal(one.Err)
		}
	}
}

// TestSecureBrokers: a start, an event and a stop, by every way to sign in; and
// what a start says that can't.
func TestSecureBrokers(t *testing.T) {
	t.Parallel()
	t.Run("kafka", func(t *testing.T) {
		b := startSecureBroker(t)
		cert, key := b.authority.issue("sluice")
		secrets := b.authority.write("secrets.key", []byte(strings.Repeat("0123456789abcdef", 4)))
		password := b.authority.write("password", []byte(kafkaPass+"\n"))
		wrong := b.authority.write("wrong", []byte("wrong"))
		ca := b.authority.file
		cfg := func(address string, k kafkaFlags) nodeConfig {
			return nodeConfig{Brokers: []string{address}, Prefix: "secure.", SecretsKeyFile: secrets, Kafka: k}
		}
		for i, c := range []struct {
			name string
			nodeConfig
		}{
			{"plain", cfg(b.sasl, kafkaFlags{CA: ca, SASL: "plain", User: kafkaAdmin, PasswordFile: password})},
			{"scram-sha-256", cfg(b.sasl, kafkaFlags{CA: ca, SASL: "scram-sha-256", User: kafkaAdmin, PasswordFile: password})},
			{"scram-sha-512", cfg(b.sasl, kafkaFlags{CA: ca, SASL: "scram-sha-512", User: kafkaAdmin, Password: kafkaPass})},
			{"certificate", cfg(b.mutual, kafkaFlags{CA: ca, Cert: cert, Key: key})},
		} {
			t.Run(c.name, func(t *testing.T) {
				c.Roles = roles{roleAPI} // the others' connections are made alike
				n := startStory(t, c.nodeConfig)
				n.number = i // they share the log
				n.member(t).publish(t, "rfq.created", nil)
			})
		}

		t.Run("refusals", func(t *testing.T) {
			for _, c := range []struct {
				name    string
				address string
				flags   kafkaFlags
				says    []string
			}{
				{"wrong password", b.sasl, kafkaFlags{CA: ca, SASL: "plain", User: kafkaAdmin, PasswordFile: wrong}, []string{"let this user in", "--kafka-sasl-user (operator)"}},
				{"wrong scram password", b.sasl, kafkaFlags{CA: ca, SASL: "scram-sha-512", User: kafkaAdmin, PasswordFile: wrong}, []string{"let this user in", "--kafka-sasl (scram-sha-512)"}},
				{"unknown authority", b.sasl, kafkaFlags{TLS: true, SASL: "plain", User: kafkaAdmin, PasswordFile: password}, []string{"x509", "--kafka-tls-ca"}},
				{"no certificate", b.mutual, kafkaFlags{CA: ca}, []string{"--kafka-tls-cert"}},
				{"TLS on the open port", b.open, kafkaFlags{TLS: true}, []string{"TLS", "--kafka-tls"}},
				{"none on the secure port", b.sasl, kafkaFlags{}, []string{"--kafka-tls"}},
				{"no sign-in", b.sasl, kafkaFlags{CA: ca}, []string{"--kafka-sasl"}},
				{"nobody there", "127.0.0.1:1", kafkaFlags{}, []string{"127.0.0.1:1", "none of them answers", "are they running"}},
			} {
				t.Run(c.name, func(t *testing.T) { refusedStart(t, cfg(c.address, c.flags), append(c.says, "--brokers")...) })
			}
		})

		t.Run("topics", func(t *testing.T) {
			c := cfg(b.sasl, kafkaFlags{CA: ca, SASL: "plain", User: kafkaGuest, PasswordFile: password})
			c.Prefix = "guest."
			poor := c
			poor.Prefix = "poor."
			b.allowGuest(t, c.Prefix, kadm.OpDescribe, kadm.OpDescribeConfigs, kadm.OpRead, kadm.OpWrite, kadm.OpDelete)
			b.allowGuest(t, poor.Prefix, kadm.OpDescribe, kadm.OpRead)
			refusedStart(t, c, "guest.tier.0s", "guest.events.live", "may not create", "sluice topics")
			printed := append(topicsPrinted(t, c.Prefix), topicsPrinted(t, poor.Prefix)...)
			for _, topic := range printed {
				config := make(map[string]*string)
				for k, v := range topic.Config {
					config[k] = &v
				}
				if _, err := b.admin.CreateTopic(t.Context(), topic.Partitions, int16(topic.Replicas), config, topic.Name); err != nil {
					t.Fatal(topic.Name, err)
				}
			}
			eventually(t, time.Minute, func() error { // the broker is told of them by and by
				have, err := b.admin.ListTopics(t.Context())
				for _, topic := range printed {
					if err == nil && !have.Has(topic.Name) {
						err = fmt.Errorf("%s isn't known", topic.Name)
					}
				}
				return err
			})
			refusedStart(t, poor, "may not Delete on poor.attempts, ", "; DescribeConfigs on poor.attempts, ", "; Write on poor.attempts, ")
			n := startStory(t, c)
			a := n.member(t)
			h, l := a.hook(t, nil, "*"), a.listen(t, "", "*")
			id := a.publish(t, "rfq.created", nil)
			l.next(t, id)
			h.next(t, id)
		})
	})
}

// refusedStart wants a start to fail in one line that says all this.
func refusedStart(t *testing.T, c nodeConfig, says ...string) {
	t.Helper()
	c.Listen, c.Ops, c.Logger = "127.0.0.1:0", "127.0.0.1:0", slog.New(slog.DiscardHandler)
	if c.Data == "" {
		c.Data = filepath.Join(t.TempDir(), "data")
	}
	began := time.Now()
	n, err := startNode(t.Context(), c)
	if err == nil {
		n.Stop(context.Background())
		t.Fatal("it started")
	}
	t.Logf("after %v: %v", time.Since(began).Round(time.Millisecond), err)
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%q doesn't say %q", err, s)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Error("more than one line")
	}
}

func topicsPrinted(t *testing.T, prefix string) []brokerTopic {
	t.Helper()
	var out bytes.Buffer
	if code := run(t.Context(), []string{"topics", "--json", "--prefix", prefix, "--replicas", "1"}, std{Out: &out, Err: &out}); code != 0 {
		t.Fatal(out.String())
	}
	return decodeTopics(t, out.Bytes())
}

func decodeTopics(t *testing.T, text []byte) (list []brokerTopic) {
	t.Helper()
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return list
}

// TestTopicsPrinted: the three ways to print say the same topics.
func TestTopicsPrinted(t *testing.T) {
	list := topicsPrinted(t, "p.")
	if len(list) != len(topics()) || list[0].Replicas != 1 || list[0].Config["min.insync.replicas"] != "1" {
		t.Fatalf("%+v", list)
	}
	for _, args := range [][]string{{"topics", "--prefix", "p."}, {"topics", "--prefix", "p.", "--commands", "--brokers", "k:1"}} {
		var out bytes.Buffer
		if code := run(t.Context(), args, std{Out: &out, Err: &out}); code != 0 {
			t.Fatal(out.String())
		}
		for _, topic := range list {
			if !strings.Contains(out.String(), topic.Name+" ") || !strings.Contains(out.String(), topic.Config["retention.ms"]) {
				t.Errorf("%v doesn't print %s: %s", args, topic.Name, &out)
			}
		}
	}
	for text, want := range map[string]string{"a.b:1,c": "a.b:1,c", "a b": "'a b'", "it's": `'it'\''s'`, "": "''"} {
		if have := quoteShell(text); have != want {
			t.Errorf("%q quoted: %s", text, have)
		}
	}
}
