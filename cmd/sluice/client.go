package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"sluice/gateway/manage"
)

// apiFlags say where the public API is and who calls.
type apiFlags struct {
	URL string `name:"url" default:"http://127.0.0.1:8080" env:"SLUICE_URL" placeholder:"URL" help:"Address of sluice. Default: ${default}."`
	Key string `name:"key" env:"SLUICE_KEY" placeholder:"KEY" help:"API key (sk_test_… or sk_live_…); it decides the org and the environment."`
}

// Validate stops a command that can only be refused.
func (f *apiFlags) Validate() error {
	if u, err := url.Parse(f.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("--url %q is no address: give http://host:port or https://host", f.URL)
	}
	if f.Key == "" {
		return errors.New("no API key: give --key or set SLUICE_KEY; `sluice key create ORG` makes one")
	}
	return nil
}

func (f *apiFlags) client() *client {
	return &client{base: strings.TrimSuffix(f.URL, "/"), token: f.Key, address: "--url", secret: "--key"}
}

// adminFlags say where the ops server is and how to be let in.
type adminFlags struct {
	Ops        address `default:"127.0.0.1:9090" env:"SLUICE_OPS" group:"admin" placeholder:"HOST:PORT" help:"Address of the ops server. Default: ${default}."`
	AdminToken string  `env:"SLUICE_ADMIN_TOKEN" group:"admin" placeholder:"TOKEN" help:"Admin token. Default: what admin.token in --data holds."`
	Data       string  `default:"./data" env:"SLUICE_DATA" group:"admin" placeholder:"DIR" help:"Where to find admin.token. Default: ${default}."`
}

func (f *adminFlags) client() (*client, error) {
	token := f.AdminToken
	if token == "" {
		path := filepath.Join(f.Data, manage.AdminTokenFile)
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("no admin token: %w: give --admin-token, set SLUICE_ADMIN_TOKEN, or name the data directory of `sluice serve` with --data", err)
		}
		token = strings.TrimSpace(string(text))
	}
	return &client{base: "http://" + string(f.Ops), token: token, address: "--ops", secret: "--admin-token"}, nil
}

// outputFlags choose between people and machines.
type outputFlags struct {
	JSON bool `name:"json" group:"output" help:"Print the answer as JSON, as the API gives it."`
}

// client calls one of the two APIs.
type client struct {
	base, token     string
	address, secret string // the flags that name them, for errors
	patient         bool   // an answer takes as long as it takes
}

var httpClient = &http.Client{Timeout: 30 * time.Second}

// call makes one request and decodes the answer into out, which may be nil. The
// answer's bytes are returned too.
func (c *client) call(ctx context.Context, method, path string, in, out any) ([]byte, error) {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return nil, err
		}
	}
	answer, err := c.send(ctx, method, path, "application/json", body)
	if err != nil {
		return nil, err
	}
	if out != nil {
		if err := json.Unmarshal(answer, out); err != nil {
			return nil, fmt.Errorf("%s %s answered what is no JSON of sluice's (%v): does %s name a sluice?", method, c.base+path, err, c.address)
		}
	}
	return answer, nil
}

func (c *client) send(ctx context.Context, method, path, contentType string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	if len(body) > 0 {
		req.Header.Set("Content-Type", contentType)
	}
	caller := httpClient
	if c.patient {
		caller = &http.Client{}
	}
	resp, err := caller.Do(req)
	if err != nil {
		var op *url.Error
		if errors.As(err, &op) {
			err = op.Err
		}
		return nil, fmt.Errorf("can't reach sluice at %s: %w: is `sluice serve` running there? %s names another address", c.base, err, c.address)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return nil, fmt.Errorf("read answer of %s: %w", c.base+path, err)
	}
	if resp.StatusCode/100 != 2 {
		return nil, c.refusal(resp, answer)
	}
	return answer, nil
}

// refusedError is an answer that is no success.
type refusedError struct {
	status     int
	retryAfter time.Duration // zero: not said
	message    string
	issues     []issue
}

// issue is one thing that is wrong with a request; the path is to its member.
type issue struct {
	path    []string
	message string
}

func (e *refusedError) Error() string { return e.message }

func (c *client) refusal(resp *http.Response, answer []byte) error {
	e := &refusedError{status: resp.StatusCode}
	if n, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
		e.retryAfter = time.Duration(n) * time.Second
	}
	var said struct {
		Error struct {
			Code, Message string
			Issues        []struct {
				Path    []string
				Message string
			}
		}
	}
	if json.Unmarshal(answer, &said) != nil || said.Error.Message == "" {
		e.message = fmt.Sprintf("%s answered %s: does %s name a sluice?", c.base, resp.Status, c.address)
		return e
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%d %s)", said.Error.Message, resp.StatusCode, said.Error.Code)
	for _, i := range said.Error.Issues {
		fmt.Fprintf(&b, "\n  %s: %s", strings.Join(i.Path, "."), i.Message)
		e.issues = append(e.issues, issue{i.Path, i.Message})
	}
	if resp.StatusCode == http.StatusUnauthorized {
		fmt.Fprintf(&b, "; check %s", c.secret)
	}
	e.message = b.String()
	return e
}

// printRaw prints an answer for machines.
func printRaw(w io.Writer, answer []byte) error {
	_, err := fmt.Fprintf(w, "%s\n", bytes.TrimSpace(answer))
	return err
}

// printTable prints rows for people, the first being the titles.
func printTable(w io.Writer, rows ...[]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	return t.Flush()
}

// confirmed asks before something that can't be undone; --yes answers for it.
func confirmed(s std, yes bool, question string) error {
	if yes {
		return nil
	}
	if !isTerminal(s.In) {
		return errors.New(question + " That can't be undone: give --yes to go on")
	}
	fmt.Fprintf(s.Err, "%s That can't be undone. Go on? [y/N] ", question)
	var answer string
	fmt.Fscanln(s.In, &answer)
	if answer != "y" && answer != "yes" {
		return errors.New("nothing was changed")
	}
	return nil
}

// isTerminal reports whether a reader or writer is a terminal.
func isTerminal(f any) bool {
	file, ok := f.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && file.Name() != os.DevNull
}
