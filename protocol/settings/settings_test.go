package settings

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/pflag"
)

// size is a type with a format of its own.
type size int64

func (s *size) UnmarshalYAML(text []byte) error {
	if _, err := fmt.Sscanf(strings.Trim(string(text), `"`), "%dMB", (*int64)(s)); err != nil {
		return fmt.Errorf("%s is not a size; write it like 5MB", text)
	}
	return nil
}

func (s size) String() string { return fmt.Sprintf("%dMB", int64(s)) }

type door struct {
	Listen string   `yaml:"listen" doc:"where"`
	Names  []string `yaml:"names" change:"reload" doc:"by which"`
	Deep   struct {
		Count int `yaml:"count" doc:"how many"`
	} `yaml:"deep" doc:"below"`
}

type config struct {
	Data     string        `yaml:"data" doc:"directory" example:"/example"`
	Door     door          `yaml:"door" doc:"the door"`
	Wait     time.Duration `yaml:"wait" change:"reload" doc:"how long"`
	Room     size          `yaml:"room" doc:"how much"`
	Open     bool          `yaml:"open" doc:"or not"`
	Password string        `yaml:"password" secret:"true" doc:"a reference"`
	Inner    string        `yaml:"-"`
}

func defaults() config {
	return config{Data: "/data", Door: door{Listen: ":1"}, Wait: 90 * time.Second, Room: 5}
}

// write makes files in a directory; the first is the configuration.
func write(t *testing.T, texts ...string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, fragments), 0o700); err != nil {
		t.Fatal(err)
	}
	for i, text := range texts {
		path := filepath.Join(dir, "x.yaml")
		if i > 0 {
			path = filepath.Join(dir, fragments, fmt.Sprintf("%d.yaml", i))
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "x.yaml")
}

// TestWhole: what only another version knows leaves the rest readable, and what cannot be read does not.
func TestWhole(t *testing.T) {
	for text, want := range map[string]bool{"data: f\n": true, "unknown: 1\nwait: never\n": true, "data: 'f\n": false, "data: f\n---\ndata: g\n": false} {
		cfg := defaults()
		if values, err := Read(&cfg, Sources{File: write(t, text)}); values.Whole() != want {
			t.Errorf("%q: whole is not %t; %v", text, want, err)
		}
	}
	cfg := defaults()
	if values, err := Read(&cfg, Sources{Dir: write(t, "") + "/.."}); err != nil || !values.Whole() {
		t.Errorf("no file: %v", err)
	}
	file := filepath.Join(t.TempDir(), "x.yaml")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.WriteFile(filepath.Join(filepath.Dir(file), fragments), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if values, err := Read(&cfg, Sources{File: file}); err == nil || values.Whole() {
		t.Errorf("fragments that cannot be listed: %v", err)
	}
}

func environ(of ...string) func() []string { return func() []string { return of } }

func TestEachSourceStandsOverTheOneBefore(t *testing.T) {
	file := write(t, "data: f\nwait: 1m\nroom: 6MB\ndoor: {listen: ':2', names: [a, b], deep: {count: 2}}\n", "room: 7MB\nopen: true\ndoor: {names: [c]}\n", "room: 8MB\n")
	if err := os.WriteFile(filepath.Join(filepath.Dir(file), fragments, "9.txt"), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := pflag.NewFlagSet("x", pflag.ContinueOnError)
	flags.String("data", "never", "")
	flags.StringSlice("name", nil, "")
	flags.String("listen", "never", "")
	if err := flags.Parse([]string{"--data", "g", "--name", "x,y"}); err != nil {
		t.Fatal(err)
	}
	c := defaults()
	values, err := Read(&c, Sources{File: file, Prefix: "X_", Flags: flags, Keys: map[string]string{"data": "data", "name": "door.names", "listen": "door.listen"},
		Environ: environ("X_DATA=e", "X_DOOR__DEEP__COUNT=3", "X_WAIT=", "Y_WAIT=2m", "X_APART=1", "X_DOOR_SERVICE_HOST=1", "X_PORT=tcp://10.0.0.1:1", "X_PORT_1_TCP_ADDR=1"), Apart: []string{"X_APART"}})
	if err != nil {
		t.Fatal(err)
	}
	want := config{Data: "g", Wait: time.Minute, Room: 8, Open: true, Door: door{Listen: ":2", Names: []string{"x", "y"}}}
	want.Door.Deep.Count = 3
	if changed := Changed(&c, &want); len(changed) > 0 {
		t.Errorf("got %+v, want %+v: %v", c, want, changed)
	}
	for key, want := range map[string]string{
		"data": "flag --data", "door.names": "flag --name", "door.deep.count": "env X_DOOR__DEEP__COUNT", "wait": file + ":2",
		"room": filepath.Join(filepath.Dir(file), fragments, "2.yaml") + ":1", "open": filepath.Join(filepath.Dir(file), fragments, "1.yaml") + ":2",
		"password": "default", "door.listen": file + ":4",
	} {
		if got := values.Origin(key).String(); got != want {
			t.Errorf("%s is of %s, want %s", key, got, want)
		}
	}
	if at, text := values.InFile("data"); text != "f" || at.Line != 1 {
		t.Errorf("the file says data is %q at %v", text, at)
	}
	if _, text := values.InFile("password"); text != "" {
		t.Errorf("the file says a password: %q", text)
	}
}

func TestFragmentsWithoutAFile(t *testing.T) {
	file := write(t, "", "data: f\n")
	c := defaults()
	if _, err := Read(&c, Sources{Dir: filepath.Dir(file)}); err != nil || c.Data != "f" {
		t.Errorf("got %+v, %v", c, err)
	}
}

func TestWhatIsWrongIsShownInItsPlace(t *testing.T) {
	for text, want := range map[string]string{
		"wiat: 1s\n":                             `[1:1] unknown field "wiat"; did you mean "wait"?` + "\n>  1 | wiat: 1s\n       ^",
		"door:\n  lisen: a\n":                    `[2:3] unknown field "lisen"; did you mean "listen"?`,
		"door:\n  room: 5MB\n":                   `[2:3] unknown field "room"; there is room`,
		"count: 5\n":                             "there is door.deep.count",
		"elephants: 5\n":                         "here stand data, door, wait",
		"door: {elephants: 5}\n":                 "below door stand listen, names, deep",
		"wait: soon\n":                           `[1:7] "soon" is not a duration; write it like 90s`,
		"room: plenty\n":                         "[1:7] plenty is not a size; write it like 5MB",
		"open: perhaps\n":                        "[1:7] \"perhaps\" is not true or false",
		"door: {deep: {count: many}}\n":          `"many" is not a whole number`,
		"door: {names: {a: b}}\n":                "is not a list",
		"door: open\n":                           "door holds keys of its own: listen, names, deep",
		"data:\n":                                "data has no value",
		"data: a\ndata: b\n":                     "[2:1]",
		"- a\n":                                  "a configuration is made of keys and values",
		"data: &a b\n":                           "anchors, aliases and tags",
		"data: !!str b\n":                        "anchors, aliases and tags",
		"data: a\n---\ndata: b\n":                "a second document",
		"data: [\n":                              "[1:7]",
		"data: a\n  wait: 1s\n":                  "not allowed in this context",
		strings.Repeat("# long\n", maxFile/7+10): "the limit is",
	} {
		c := defaults()
		file := write(t, text)
		_, err := Read(&c, Sources{File: file})
		if err == nil || !strings.HasPrefix(err.Error(), file+": ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %s", text, err, want)
		}
	}
	for _, text := range []string{"", "# nothing\n", "door:\n", "---\n", "data: \"a\" # said\n"} {
		c := defaults()
		if _, err := Read(&c, Sources{File: write(t, text)}); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestVariablesThatNameNothing(t *testing.T) {
	for _, tt := range []struct {
		variable, want string
		shared         bool
	}{
		{"X_DOOR_LISTEN", "did you mean X_DOOR__LISTEN?", false},
		{"X_DOOR_LISTEN", "did you mean X_DOOR__LISTEN?", true},
		{"X_DOOR__LISEN", "did you mean X_DOOR__LISTEN?", true},
		{"X_WIAT", "did you mean X_WAIT?", false},
		{"X_ELEPHANTS", "such as X_DOOR__LISTEN", false},
		{"X_ELEPHANTS__MANY", "such as X_DOOR__LISTEN", true},
		{"X_ELEPHANTS", "", true}, // another program's
		{"X_WHAT", "", true},
	} {
		c := defaults()
		_, err := Read(&c, Sources{Prefix: "X_", Shared: tt.shared, Environ: environ(tt.variable + "=1")})
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), "env "+tt.variable+": ") || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s, shared %t: %v, want %q", tt.variable, tt.shared, err, tt.want)
		}
	}
}

func TestEverythingThatIsWrongIsSaidWithItsOrigin(t *testing.T) {
	flags := pflag.NewFlagSet("x", pflag.ContinueOnError)
	flags.String("open", "", "")
	if err := flags.Parse([]string{"--open", "ajar"}); err != nil {
		t.Fatal(err)
	}
	c := defaults()
	file := write(t, "wait: soon\nelephants: 1\n", "room: much\n")
	values, err := Read(&c, Sources{File: file, Prefix: "X_", Flags: flags, Keys: map[string]string{"open": "open"},
		Environ: environ("X_DOOR__DEEP__COUNT=few", "X_DOOR__LISTEN=here", "X_ELEPHANTS=2")})
	for _, want := range []string{`"soon" is not a duration`, `"elephants"`, "much is not a size", `env X_DOOR__DEEP__COUNT: door.deep.count: "few"`, "env X_ELEPHANTS", `flag --open: open: "ajar"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %s", err, want)
		}
	}
	var problem *Problem
	if !errors.As(err, &problem) || problem.Origin.File != file {
		t.Errorf("the first problem is of %+v", problem)
	}
	if d := defaults(); c.Wait != d.Wait || c.Room != d.Room || c.Door.Listen != "here" {
		t.Errorf("what is wrong keeps its default, and what is right is taken: %+v", c)
	}
	for text, want := range map[string]string{
		"door.listen: here is no address": "env X_DOOR__LISTEN: door.listen: here",
		"wait: too long":                  file + ": wait: too long", // the default is
		"data: there is none":             file + ": data: there is none",
		"door: not so":                    "env X_DOOR__LISTEN: door: not so",
	} {
		if got := values.Locate(errors.Join(errors.New(text))); got == nil || !strings.Contains(got.Error(), want) {
			t.Errorf("%s: %v, want %s", text, got, want)
		}
	}
	if values.Locate(nil) != nil {
		t.Error("nothing is wrong with nothing")
	}
	// Of what was not read nobody knows what it lacks.
	c = defaults()
	values, err = Read(&c, Sources{File: filepath.Join(t.TempDir(), "none.yaml")})
	if got := values.Locate(errors.Join(errors.New("data: required"))); err == nil || got != nil {
		t.Errorf("%v, and %v", err, got)
	}
}

func TestShownIsWhatWouldBeRead(t *testing.T) {
	c := defaults()
	c.Data, c.Door.Names, c.Wait = `C:\Program Files\x # "y"`, []string{"host:7443", "[::1]:1", "a b", "*"}, 36*time.Hour
	values, err := Read(&c, Sources{Prefix: "X_", Environ: environ("X_OPEN=true")})
	if err != nil {
		t.Fatal(err)
	}
	var shown strings.Builder
	if err := values.Write(&shown, &c); err != nil {
		t.Fatal(err)
	}
	again := config{}
	if _, err := Read(&again, Sources{File: write(t, shown.String())}); err != nil {
		t.Fatalf("%s\n%v", shown.String(), err)
	}
	if changed := Changed(&c, &again); len(changed) > 0 {
		t.Errorf("%s\nis read as %+v, want %+v", shown.String(), again, c)
	}
	for _, want := range []string{"wait: 36h                             # default\n", "open: true                            # env X_OPEN\n", "room: 5MB "} {
		if !strings.Contains(shown.String(), want) {
			t.Errorf("%s\nlacks %q", shown.String(), want)
		}
	}
}

func TestSecretsAreShownNowhere(t *testing.T) {
	const canary = "hunter2"
	file := write(t, "password: hunter2\ndata: http://me:hunter2@proxy:1\nelephants: 1\nwait: soon\n")
	c := defaults()
	values, err := Read(&c, Sources{File: file})
	var shown strings.Builder
	if failed := values.Write(&shown, &c); failed != nil {
		t.Fatal(failed)
	}
	for what, text := range map[string]string{"show": shown.String(), "json": fmt.Sprint(values.List(&c)), "errors": err.Error(),
		"check": fmt.Sprint(values.Locate(errors.New("password: it is no reference")))} {
		if strings.Contains(text, canary) || !strings.Contains(text, "password") {
			t.Errorf("%s: %s", what, text)
		}
	}
	if !strings.Contains(shown.String(), "http://me:***@proxy:1") {
		t.Errorf("%s", shown.String())
	}
	for text, want := range map[string]string{
		">  1 | password: file:erp": ">  1 | password: file:erp", "https://u:p@h/x https://u@h": "https://u:***@h/x https://u@h",
		` 12 | token: "abc"`: " 12 | token: ***", "   1 | secrets: /etc/x": "   1 | secrets: /etc/x", "a:b@c": "a:b@c",
		"proxyPassword: it is none": "proxyPassword: it is none", "[1:2] a\n   1 | {a: b, proxyPassword: x y}": "[1:2] a\n   1 | {a: b, proxyPassword: ***}",
	} {
		if got := Mask(text); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

// Only what a running process takes over is taken.
func TestTake(t *testing.T) {
	have, next := defaults(), defaults()
	next.Data, next.Wait, next.Door = "/other", time.Second, door{Listen: ":9", Names: []string{"x"}}
	Take(&have, &next, "wait")
	want := defaults()
	want.Door.Names = []string{"x"}
	if changed := Changed(&have, &want); len(changed) > 0 {
		t.Errorf("got %+v, want %+v: %v", have, want, changed)
	}
}

func TestExampleAndTable(t *testing.T) {
	c := defaults()
	text := Example(&c, "Head.\n")
	var read config
	if _, err := Read(&read, Sources{File: write(t, text)}); err != nil {
		t.Fatalf("%s\n%v", text, err)
	}
	c.Data = "/example"
	if changed := Changed(&c, &read); len(changed) > 0 || !strings.HasPrefix(text, "# Head.\n\ndata: /example ") {
		t.Errorf("%s\ndiffers in %v", text, changed)
	}
	var loose map[string]any
	if err := yaml.Unmarshal([]byte(text), &loose); err != nil || len(loose) != 6 {
		t.Errorf("%v: %v", err, loose)
	}
	table := Table(&c, "X_")
	for _, want := range []string{
		"| `door.names` | list |  | `X_DOOR__NAMES` | a reload | by which |\n", "| `wait` | duration | `1m30s` | `X_WAIT` | a reload |",
		"| `room` | size | `5MB` | `X_ROOM` | a restart |",
	} {
		if !strings.Contains(table, want) {
			t.Errorf("%s\nlacks %s", table, want)
		}
	}
}

func TestChanged(t *testing.T) {
	a, b := defaults(), defaults()
	b.Door.Names, b.Inner, b.Wait = []string{}, "x", time.Second
	var names []string
	for _, k := range Changed(&a, &b) {
		names = append(names, k.Name)
	}
	if !slices.Equal(names, []string{"wait"}) {
		t.Errorf("changed %v", names)
	}
}

// FuzzFile: whatever stands in a file, it is read or refused with its name; what was read and
// shown is read the same again, and no value ends the program.
func FuzzFile(f *testing.F) {
	f.Add("data: f\nwait: 1m\nroom: 6MB\ndoor: {listen: ':2', names: [a, b], deep: {count: 2}}\n")
	f.Add("data: 'a: #b'\n")
	f.Add("? a\n: b\n")
	f.Add("data: |\n  a\n  b\n")
	f.Add("&a [*a]")
	f.Fuzz(func(t *testing.T, text string) {
		file := filepath.Join(t.TempDir(), "x.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c := defaults()
		values, err := Read(&c, Sources{File: file})
		if err != nil {
			if !strings.Contains(err.Error(), file) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if Mask(c.Data) != c.Data || c.Password != "" || Mask(strings.Join(c.Door.Names, " ")) != strings.Join(c.Door.Names, " ") || Mask(c.Door.Listen) != c.Door.Listen {
			return // it is not shown as it is
		}
		var shown strings.Builder
		if err := values.Write(&shown, &c); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		again := config{}
		if err := os.WriteFile(file, []byte(shown.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(&again, Sources{File: file}); err != nil || len(Changed(&c, &again)) > 0 {
			t.Fatalf("%q: shown as\n%s\nwhich is read as %+v, %v", text, shown.String(), again, err)
		}
	})
}
