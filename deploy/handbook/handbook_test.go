package handbook_test

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/deploy/handbook"
	"github.com/crossdock/crossdock/deploy/handbook/reference"
)

func TestTopicsCanBeAskedFor(t *testing.T) { reference.Topics(t, handbook.Topics()) }

// shown is what a program's help shows of a topic.
func shown(t *testing.T, topics []handbook.Topic, name string) string {
	t.Helper()
	var out bytes.Buffer
	root := &cobra.Command{Use: "crossdock"}
	root.SetHelpCommand(handbook.Command(&out, topics, fmt.Errorf))
	root.AddCommand(&cobra.Command{Use: "status", Run: func(*cobra.Command, []string) {}}) // without one there is no help
	root.SetArgs([]string{"help", name})
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestLinksBecomeWhatToType(t *testing.T) {
	const text = "# Links\n\n" +
		"Read [clock.md](clock.md), [the way](../handbook/clock.md#what), [plugins/sdk](../../plugins/sdk/README.md) and [Zone](../zone/README.md).\n" +
		"Files: [controlplane.yaml](../examples/controlplane.yaml), [runbooks](../runbooks), [Agent](#agent), [gone](gone.md).\n" +
		"Kept: [minisign](https://jedisct1.github.io/minisign/), `[a](clock.md)`.\n" +
		"```\n[a](clock.md)\n```\n"
	const want = "# Links\n\n" +
		"Read `crossdock help clock`, the way (`crossdock help clock`), plugins/sdk (`crossdock help plugin-guide`) and Zone (`crossdock help zone`).\n" +
		"Files: controlplane.yaml, runbooks, Agent, gone.\n" +
		"Kept: [minisign](https://jedisct1.github.io/minisign/), `[a](clock.md)`.\n" +
		"```\n[a](clock.md)\n```\n"
	topics := []handbook.Topic{handbook.NewTopic("links", text)}
	for _, name := range []string{"clock", "plugin-guide", "zone"} {
		topics = append(topics, handbook.NewTopic(name, "# "+name+"\n"))
	}
	if got := shown(t, topics, "links"); got != want {
		t.Errorf("shown:\n%s\nwant:\n%s", got, want)
	}
}

func TestNoTopicLinksIntoTheSources(t *testing.T) {
	into := regexp.MustCompile(`\]\([^()\s:` + "`" + `]+\.[a-z]+\)`)
	for _, topic := range handbook.Topics() {
		text := shown(t, handbook.Topics(), topic.Name)
		if !strings.Contains(text, topic.Title) {
			t.Errorf("help %s shows %q", topic.Name, text)
		}
		if found := into.FindString(text); found != "" {
			t.Errorf("help %s shows %s", topic.Name, found)
		}
	}
}
