package state

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
)

// maxCommands bounds what waits for one agent.
const maxCommands = 10_000

func commandID(number uint64) string { return "c" + strconv.FormatUint(number, 10) }

// answered takes an agent's answer to a command: it is done with, and an error goes to the
// dead letter that it was about. What became of the replay comes as a fact.
func (t *tx) answered(agent string, a model.CommandAnswer, at time.Time) {
	text, ok := strings.CutPrefix(a.ID, "c")
	number, err := strconv.ParseUint(text, 10, 64)
	if !ok || err != nil {
		return
	}
	k := key(agent, number)
	cmd := get[model.AgentCommand](t.view, tableCommands, k)
	if cmd == nil {
		return
	}
	t.remove(tableCommands, k)
	t.changed("commands/" + agent)
	if cmd.Kind == model.CommandRelease {
		return // its agent says with every status whether it still holds
	}
	var args model.ResolveArguments
	if err := json.Unmarshal(cmd.Arguments, &args); err != nil {
		panic(fault{fmt.Errorf("arguments of command %s: %w", cmd.ID, err)}) // written here
	}
	row := get[letterRow](t.view, tableLetters, []byte(args.DeadLetter))
	if row == nil || row.Asked != number {
		return
	}
	letter := row.Letter
	if a.Error != "" && letter.State == model.DeadLetterReplaying {
		letter.State = model.DeadLetterOpen
		letter.Reason = clip(cmd.Kind+" failed: "+a.Error, maxText)
	}
	t.storeLetter(row, &letter, 0, at)
}
