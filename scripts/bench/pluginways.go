package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
	"github.com/crossdock/crossdock/scripts/bench/direct"
	"github.com/crossdock/crossdock/scripts/bench/load"
	"github.com/crossdock/crossdock/scripts/bench/material"
	"github.com/crossdock/crossdock/scripts/bench/world"
)

// The programs.
const (
	carrierProgram = "carrier-zone"
	taxProgram     = "tax-table"
)

// pluginPrograms are the carrier and the tax engine of one run, with new books.
func (r *run) pluginPrograms() ([]material.Program, error) {
	out := []material.Program{
		{Name: material.Carrier, File: carrierProgram, Settings: map[string]string{"state": filepath.Join(r.dir, "book"),
			"tables": r.programs.Source(filepath.Join("plugins", "carrier-zone", "zone", "testdata", "tables"))}},
		{Name: material.Taxes, File: taxProgram, Settings: map[string]string{"state": filepath.Join(r.dir, "ledger")}},
	}
	for i := range out {
		text, err := os.ReadFile(r.programs.Path(out[i].File))
		if err != nil {
			return nil, err
		}
		out[i].SHA256 = sha256.Sum256(text)
	}
	return out, nil
}

func pluginReference(serial int) string { return fmt.Sprintf("P-%09d", serial) }

// throughAgent calls plugins as a system of a site does.
type throughAgent struct {
	*run
	short  string // directory with a short name of the run's
	c      *world.Crossdock
	agent  *world.Agent
	caller *load.Caller
}

var _ pluginWay = (*throughAgent)(nil)

// up has one revision after the other bring a plugin more.
func (t *throughAgent) up(ctx context.Context) (taken []pluginMemory, err error) {
	programs, err := t.pluginPrograms()
	if err != nil {
		return nil, err
	}
	if err := t.start(ctx); err != nil {
		return nil, err
	}
	look := func(what string, usage func() (world.Usage, error)) error {
		u, err := usage()
		taken = append(taken, pluginMemory{what, u})
		return err
	}
	for n, what := range []string{"the agent without a plugin", "the agent with one plugin", "the agent with two plugins"} {
		if n > 0 {
			if err := t.bring(ctx, n+1, programs[:n]...); err != nil {
				return nil, err
			}
		}
		if err := pause(ctx, t.lasts/2); err != nil {
			return nil, err
		}
		if err := look(what, t.agent.Process.Usage); err != nil {
			return nil, err
		}
	}
	for _, p := range programs {
		child, err := t.plugin(ctx, p.Name)
		if err == nil {
			err = look(p.File, child.Usage)
		}
		if err != nil {
			return nil, err
		}
	}
	return taken, nil
}

// start starts a control plane and the agent of a depot that has no plugin yet. The socket of
// a plugin lies below its agent's data and its path has to fit 107 bytes, so that the data is
// told by a short name.
func (t *throughAgent) start(ctx context.Context) (err error) {
	if t.short, err = os.MkdirTemp("", "bench"); err != nil {
		return err
	}
	data := filepath.Join(t.short, "d")
	if err := os.Symlink(t.dir, data); err != nil {
		return err
	}
	files, secrets := material.Depot()
	if err := t.addContracts(files); err != nil {
		return err
	}
	t.c, err = world.StartCrossdock(ctx, world.CrossdockConfig{Programs: t.programs, Dir: data, Size: 1, ERP: nobody,
		Policy: files, Secrets: secrets, Agent: fmt.Sprintf("plugins: {dir: %q}\n", t.programs.Dir())})
	if err != nil {
		return err
	}
	if t.agent, err = t.c.Enrol(ctx, material.DepotSite, t.c.Syncs()); err != nil {
		return err
	}
	t.caller = load.NewCaller(t.agent.Intake, material.DepotToken)
	return t.agent.Start(ctx)
}

// addContracts has calls leave their events, as people are told to.
func (t *throughAgent) addContracts(files map[string]string) error {
	dir := t.programs.Source(filepath.Join("deploy", "examples", "calls"))
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		files[e.Name()] = string(text)
	}
	return nil
}

// bring has a revision name plugins, and waits until they run and there are numbers for labels.
func (t *throughAgent) bring(ctx context.Context, revision int, programs ...material.Program) error {
	files, _ := material.Depot(programs...)
	if err := os.WriteFile(filepath.Join(t.c.PolicyDir(), material.DepotFile), []byte(files[material.DepotFile]), 0o600); err != nil {
		return err
	}
	if err := t.c.Propose(ctx); err != nil {
		return err
	}
	if err := t.c.Approve(ctx, revision); err != nil {
		return err
	}
	for _, p := range programs {
		if _, err := t.plugin(ctx, p.Name); err != nil {
			return err
		}
	}
	return world.Await(ctx, "the depot has numbers", []*world.Process{t.agent.Process}, func(ctx context.Context) error {
		status, err := t.agent.Status(ctx)
		if err == nil && (len(status.Numbers) != 1 || status.Numbers[0].Left == 0) {
			err = fmt.Errorf("it has %+v", status.Numbers)
		}
		return err
	})
}

// plugin waits until one runs.
func (t *throughAgent) plugin(ctx context.Context, name string) (child world.Child, err error) {
	err = world.Await(ctx, "plugin "+name+" runs", []*world.Process{t.agent.Process}, func(ctx context.Context) error {
		status, err := t.agent.Status(ctx)
		if err != nil {
			return err
		}
		for _, p := range status.Plugins {
			if p.Plugin == name && p.State == "running" {
				child = world.Child{Name: name, PID: p.PID}
				return nil
			}
		}
		return fmt.Errorf("the plugins are %+v", status.Plugins)
	})
	return child, err
}

func (t *throughAgent) call(ctx context.Context, what string, serial int) error {
	reference := pluginReference(serial)
	switch what {
	case opRate:
		return t.caller.Call(ctx, "carriers/"+material.Carrier+"/"+carrier.OpRate, "", material.Shipment(reference))
	case opShip:
		return t.caller.Call(ctx, "carriers/"+material.Carrier+"/"+carrier.OpShip, reference, material.Shipment(reference))
	}
	return t.caller.Call(ctx, "tax/"+tax.OpFinalise, reference, material.Sale(reference))
}

// settle says how long events of calls still leave when nobody calls any more.
func (t *throughAgent) settle(ctx context.Context, name string) error {
	begun, waited := time.Now(), false
	err := world.Await(ctx, "the events of calls have left", []*world.Process{t.agent.Process}, func(ctx context.Context) error {
		status, err := t.agent.Status(ctx)
		if err == nil && status.Calls.Leaving > 0 {
			waited, err = true, fmt.Errorf("%d are left", status.Calls.Leaving)
		}
		return err
	})
	if err == nil && waited {
		t.note(name+", until the last event has left", "ms", millis(time.Since(begun)))
	}
	return err
}

func (t *throughAgent) anew(ctx context.Context) error {
	t.agent.Process.Kill()
	return t.agent.Start(ctx)
}

func (t *throughAgent) running(ctx context.Context) (world.Child, error) {
	return t.plugin(ctx, material.Carrier)
}

func (t *throughAgent) mend(context.Context) error { return nil } // the agent does

func (t *throughAgent) close() {
	if t.caller != nil {
		t.caller.Close()
	}
	if t.c != nil {
		_ = t.c.Close() // what is left of the data goes with the run's directory
	}
	if t.short != "" {
		_ = os.RemoveAll(t.short) // a name, and nothing in it
	}
}

// alone calls plugins that it starts itself. What it asks for is made beforehand, but for the
// reference and the number.
type alone struct {
	*run
	shipment carrier.Shipment
	sale     tax.Document
	settings map[string]sdk.Settings // by plugin
	zone     *direct.Plugin[carrier.Carrier]
	table    *direct.Plugin[tax.Engine]
}

var _ pluginWay = (*alone)(nil)

func (a *alone) up(ctx context.Context) (taken []pluginMemory, err error) {
	if err := errors.Join(sdk.ReadJSON(material.Shipment(""), &a.shipment), sdk.ReadJSON(material.Sale(""), &a.sale)); err != nil {
		return nil, err
	}
	programs, err := a.pluginPrograms()
	if err != nil {
		return nil, err
	}
	a.settings = map[string]sdk.Settings{}
	for _, p := range programs {
		a.settings[p.Name] = p.Settings
	}
	if a.table, err = direct.StartTax(ctx, a.programs.Path(taxProgram), a.settings[material.Taxes]); err != nil {
		return nil, err
	}
	if err := a.mend(ctx); err != nil {
		return nil, err
	}
	if err := pause(ctx, a.lasts/2); err != nil {
		return nil, err
	}
	zone, err1 := a.zone.Process.Usage()
	table, err2 := a.table.Process.Usage()
	return []pluginMemory{{carrierProgram, zone}, {taxProgram, table}}, errors.Join(err1, err2)
}

func (a *alone) call(ctx context.Context, what string, serial int) (err error) {
	shipment, sale := a.shipment, a.sale
	shipment.Reference, sale.Reference = pluginReference(serial), pluginReference(serial)
	switch what {
	case opRate:
		_, err = a.zone.Serves.Rate(ctx, &shipment)
	case opShip:
		shipment.Numbers = map[string][]string{material.Tracking: {material.TrackingNumber(serial)}}
		_, err = a.zone.Serves.Ship(ctx, &shipment)
	default:
		_, err = a.table.Serves.Finalise(ctx, &sale)
	}
	return err
}

func (a *alone) settle(context.Context, string) error { return nil } // what was answered is done

func (a *alone) anew(context.Context) error { return nil } // nothing counts them

func (a *alone) running(context.Context) (world.Child, error) { return a.zone.Process, nil }

func (a *alone) mend(ctx context.Context) (err error) {
	if a.zone != nil {
		a.zone.Close()
	}
	a.zone, err = direct.StartCarrier(ctx, a.programs.Path(carrierProgram), a.settings[material.Carrier])
	return err
}

func (a *alone) close() {
	if a.zone != nil {
		a.zone.Close()
	}
	if a.table != nil {
		a.table.Close()
	}
}
