package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/agent/calls"
	"github.com/crossdock/crossdock/agent/delivery"
	"github.com/crossdock/crossdock/agent/doctor"
	"github.com/crossdock/crossdock/agent/identity"
	"github.com/crossdock/crossdock/agent/space"
)

// local talks to the running agent of this machine whose data is in a directory.
type local struct {
	address string
	data    string
}

func (p *program) local(cfg agent.Config) *local {
	return &local{address: cfg.Ops.Listen, data: cfg.Place()}
}

// errNotRunning says that nobody answers on the operators' port, or another agent does.
var errNotRunning = errors.New("the agent is not running here")

// otherAgent says that the port belongs to the agent of another data directory.
type otherAgent struct {
	asked *local
	who   string
}

func (o *otherAgent) Error() string {
	return fmt.Sprintf("%v: %s is the port of %s, and not of one with its data in %s; give each agent an ops.listen of its own, or name the right configuration with -c",
		errNotRunning, o.asked.address, o.who, o.asked.data)
}

func (o *otherAgent) Is(target error) bool { return target == errNotRunning } //nolint:errorlint // what Is is for

// token reads the token that the agent with this data directory has made for who may read it.
func (l *local) token() (string, error) {
	text, err := os.ReadFile(filepath.Join(l.data, "ops.token"))
	return strings.TrimSpace(string(text)), err
}

// call asks the agent and gives the body of its answer; the caller closes it.
func (l *local) call(ctx context.Context, method, path string, query url.Values) (io.ReadCloser, error) {
	token, err := l.token()
	if errors.Is(err, fs.ErrNotExist) { // no agent has run there, or somebody has removed it
		if s, ok := l.occupant(ctx); ok && s.Data != l.data {
			return nil, withCode(exitNotRunning, l.other(s))
		}
	}
	answer, asked := l.ask(ctx, method, path, query, token)
	if asked != nil {
		return nil, asked
	}
	if answer.StatusCode < 300 {
		return answer.Body, nil
	}
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusUnauthorized && errors.Is(err, fs.ErrPermission) {
		return nil, withCode(exitDenied, fmt.Errorf("%w; who may read it may do this: run it as root, or as the user of the agent", err))
	}
	if answer.StatusCode == http.StatusUnauthorized && token != "" {
		if s, _ := l.occupant(ctx); s.Data != l.data { // else it has made itself another token since
			return nil, withCode(exitNotRunning, l.other(s))
		}
	}
	return nil, refusal(answer)
}

// refusal reads why the agent has not done it.
func refusal(answer *http.Response) error {
	var problem struct{ Detail string }
	if err := json.NewDecoder(io.LimitReader(answer.Body, 64<<10)).Decode(&problem); err != nil || problem.Detail == "" {
		problem.Detail = answer.Status
	}
	codes := map[int]int{http.StatusUnauthorized: exitDenied, http.StatusConflict: exitConflict, http.StatusUnprocessableEntity: exitUsage}
	code := codes[answer.StatusCode]
	if code == 0 {
		code = exitFailed
	}
	return withCode(code, errors.New(problem.Detail))
}

func (l *local) ask(ctx context.Context, method, path string, query url.Values, token string) (*http.Response, error) {
	target := url.URL{Scheme: "http", Host: l.address, Path: path, RawQuery: query.Encode()}
	request, err := http.NewRequestWithContext(ctx, method, target.String(), nil)
	if err != nil {
		return nil, err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil && ctx.Err() != nil {
		// It is there, and busy or stuck: nobody may take it for stopped.
		return nil, withCode(exitFailed, fmt.Errorf("the agent on %s has not answered in time: %w", l.address, ctx.Err()))
	}
	if err != nil {
		return nil, withCode(exitNotRunning, fmt.Errorf("%w (nobody answers on %s)%s", errNotRunning, l.address, l.next()))
	}
	return answer, nil
}

// next is what comes before an agent runs with this data directory.
func (l *local) next() string {
	cfg := agent.Config{Data: l.data}
	granted, err := identity.Held(cfg.IdentityDir())
	if err == nil && granted.Agent == "" {
		return ", and was never enrolled with its data in " + l.data + ": see crossdock-agent enroll --help"
	}
	return "; crossdock-agent service start starts it where it is a service"
}

// occupant asks whoever is on the port who that is.
func (l *local) occupant(ctx context.Context) (s agent.Status, ok bool) {
	answer, err := l.ask(ctx, http.MethodGet, "/v1/status", nil, "")
	if err != nil {
		return s, false
	}
	defer answer.Body.Close()
	return s, json.NewDecoder(answer.Body).Decode(&s) == nil && s.Agent != ""
}

func (l *local) other(s agent.Status) *otherAgent {
	if s.Agent == "" {
		return &otherAgent{l, "another agent or program"}
	}
	return &otherAgent{l, fmt.Sprintf("agent %s of site %s, with its data in %s", s.Agent, s.Site, s.Data)}
}

func (l *local) get(ctx context.Context, method, path string, query url.Values, into any) error {
	body, err := l.call(ctx, method, path, query)
	if err != nil {
		return err
	}
	defer body.Close()
	return json.NewDecoder(body).Decode(into)
}

func (p *program) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show link, policy, queue and systems of the running agent", Args: cobra.NoArgs,
		Long: "Show link, policy, queue and systems of the running agent.\n\n" +
			"A system whose token is missing cannot post. A file that is put in place later is taken within 30 s.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			status, err := p.statusRunning(cmd.Context())
			if err != nil {
				return err
			}
			return p.print(status, func(w io.Writer) { printStatus(w, status) })
		},
	}
}

func (p *program) statusRunning(ctx context.Context) (agent.Status, error) {
	cfg, err := p.loadRunning()
	if err != nil {
		return agent.Status{}, err
	}
	return p.status(ctx, cfg)
}

// status asks the running agent how it is.
func (p *program) status(ctx context.Context, cfg agent.Config) (s agent.Status, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err = p.local(cfg).get(ctx, http.MethodGet, "/v1/status", nil, &s)
	return s, err
}

func printStatus(w io.Writer, s agent.Status) {
	link := "cut off since " + s.Link.Since.Local().Format(time.DateTime)
	if s.Link.LastError != "" {
		link += ": " + s.Link.LastError
	}
	if s.Link.Connected {
		link = fmt.Sprintf("%s to %s since %s", s.Link.Transport, s.Link.Address, s.Link.Since.Local().Format(time.DateTime))
		if s.Link.Reason != "" {
			link += " (" + s.Link.Reason + ")"
		}
		if s.Link.Node != "" {
			link += ", node " + s.Link.Node
		}
	}
	policy := "none yet"
	if s.Policy.Revision != "" {
		policy = "revision " + s.Policy.Revision
	}
	if s.Policy.Refused != "" {
		policy += ", refused: " + s.Policy.Refused
	}
	if !s.Link.NoRoom.IsZero() {
		link += "; no room for mail since " + s.Link.NoRoom.Local().Format(time.DateTime) + ", it waits at the control plane"
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintf(t, "agent\t%s (site %s, cluster %s, generation %d, epoch %d)\n", s.Agent, s.Site, s.Cluster, s.Generation, s.Epoch)
	if s.Link.Fenced != "" {
		fmt.Fprintf(t, "fenced\t%s\n", oneLine(s.Link.Fenced))
	}
	fmt.Fprintf(t, "version\t%s, running since %s\n", s.Version, s.Started.Local().Format(time.DateTime))
	if text := releaseText(s.Release); text != "" {
		fmt.Fprintf(t, "release\t%s\n", oneLine(text))
	}
	fmt.Fprintf(t, "link\t%s\n", oneLine(link))
	fmt.Fprintf(t, "policy\t%s\n", oneLine(policy))
	printConfig(t, s.Config)
	fmt.Fprintf(t, "certificate\tuntil %s\n", s.Certificate.Local().Format(time.DateTime))
	fmt.Fprintf(t, "queue\t%d accepted, %d received, %d to be sent; %.1f of %.1f MB\n",
		s.Queue.Accepted, s.Queue.Received, s.Queue.Outgoing, megabytes(s.Queue.Bytes), megabytes(s.Queue.Quota))
	if s.Disk.State != "" { // an older agent does not say it
		fmt.Fprintf(t, "disk\t%s\n", oneLine(disk(s.Disk)))
	}
	if d := s.Documents; d.Count+d.Arriving+d.Missing > 0 {
		fmt.Fprintf(t, "documents\t%d, %d arriving, %d missing; %.1f of %.1f MB\n", d.Count, d.Arriving, d.Missing, megabytes(d.Bytes), megabytes(d.Quota))
	}
	printSecrets(t, s)
	_ = t.Flush() // standard output
	printOpenCalls(t, s.Calls)
	if len(s.Numbers) > 0 {
		fmt.Fprintln(w)
		printNumbers(w, s.Numbers)
	}
	if len(s.Plugins) > 0 {
		fmt.Fprintln(w)
		printPlugins(w, s.Plugins)
	}
	if len(s.Systems) == 0 {
		return
	}
	fmt.Fprintln(t, "\nSYSTEM\tSTATE\tDELIVERED\tPENDING\tPARKED\tDEAD LETTERS\tLAST ERROR")
	for _, y := range s.Systems {
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%d\t%s\n", y.System, state(y), y.Delivered, y.Pending, y.Parked, y.DeadLetters, oneLine(lastError(y)))
	}
	_ = t.Flush()
}

// printConfig says where the running agent does not follow its files.
func printConfig(t *tabwriter.Writer, c agent.ConfigStatus) {
	if c.Refused != "" {
		why, _, _ := strings.Cut(c.Refused, "\n")
		fmt.Fprintf(t, "configuration\tof %s refused, that of %s is in force: %s\n",
			c.RefusedAt.Local().Format(time.DateTime), c.Read.Local().Format(time.DateTime), oneLine(why))
	}
	if len(c.Restart) > 0 {
		fmt.Fprintf(t, "configuration\twaiting for a restart: %s\n", listed(c.Restart))
	}
}

// disk says how much room there is, and for how long of an outage.
func disk(d space.Status) string {
	text := fmt.Sprintf("%s, %.0f MB free. %s", d.State, megabytes(d.Free), d.Outage.Words())
	if d.Why != "" {
		text += " Since " + d.Since.Local().Format(time.DateTime) + ": " + d.Why
	}
	return text
}

// printSecrets shows what people compare when they set a secret, and which secrets are amiss.
func printSecrets(t *tabwriter.Writer, s agent.Status) {
	if s.SealingKey == "" {
		return
	}
	held := 0
	for _, one := range s.Secrets {
		if one.Version > 0 && !one.Dropped {
			held++
		}
	}
	fmt.Fprintf(t, "secrets\t%d held; the key of this agent is %s\n", held, s.SealingKey)
	for _, one := range s.Secrets {
		switch {
		case one.Refused != "":
			fmt.Fprintf(t, "\t%s: %s\n", one.Name, oneLine(one.Refused))
		case len(one.Only) > 0:
			fmt.Fprintf(t, "\t%s: only to %s\n", one.Name, oneLine(strings.Join(one.Only, ", ")))
		}
	}
}

// printOpenCalls says what waits, and what events of calls have no contract to leave by.
func printOpenCalls(t *tabwriter.Writer, c calls.Status) {
	if c.Queued+c.Unknown+c.Begun > 0 {
		fmt.Fprintf(t, "calls\t%d queued (%d late), %d in doubt, %d being made\n", c.Queued, c.Late, c.Unknown, c.Begun)
	}
	for _, kind := range slices.Sorted(maps.Keys(c.Unpublished)) {
		fmt.Fprintf(t, "no contract\t%s %s of calls did not leave: the policy has no such contract with authority agent\n", doctor.Count(c.Unpublished[kind], "event"), kind)
	}
	_ = t.Flush() // standard output
}

// state joins how a system takes events and how it hands them in.
func state(y agent.SystemStatus) string {
	words := y.Words()
	switch {
	case y.Intake == "":
		return words
	case y.State == delivery.SystemOK:
		return "cannot post"
	}
	return words + ", cannot post"
}

// oneLine keeps a text from breaking a table.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// lastError says what went wrong last, when, and whether something went well since.
func lastError(y agent.SystemStatus) string {
	var said []string
	if y.Intake != "" {
		said = append(said, y.Intake)
	}
	switch {
	case y.Held != "":
		said = append(said, "held: "+y.Held)
	case y.LastError != "":
		at := y.LastErrorAt.Local().Format(time.DateTime)
		if y.LastSuccess.After(y.LastErrorAt) {
			at += " (before the last success)"
		}
		said = append(said, at+": "+y.LastError)
	}
	return strings.Join(said, "; ")
}

func megabytes(n int64) float64 { return float64(n) / (1 << 20) }
