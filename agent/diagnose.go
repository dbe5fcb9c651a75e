package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/crossdock/crossdock/agent/doctor"
)

const (
	// diagnosisAge is how old a report may be to be given again: who asks often gets no more
	// probes than this.
	diagnosisAge = 5 * time.Second
	// diagnosisTime bounds one examination, below what callers wait for it.
	diagnosisTime = 40 * time.Second
)

// diagnosis examines the running agent, for one who asks at a time.
type diagnosis struct {
	turn  chan struct{} // held by who examines; guards what follows
	last  doctor.Report
	begun time.Time // when that was
}

func newDiagnosis() *diagnosis { return &diagnosis{turn: make(chan struct{}, 1)} }

// Diagnose examines the agent from inside: with its own user, environment and secrets. What it
// gives is a few seconds old at most; fresh asks for nothing from before the question, as who
// has just mended something wants it.
func (a *Agent) Diagnose(ctx context.Context, fresh bool) (doctor.Report, error) {
	return a.diagnosis.report(ctx, fresh, func(ctx context.Context) doctor.Report {
		found := Found{Running: true, Config: a.cfg.File}
		findings := append(Examine(ctx, a.inForce(), found), ExamineStatus(a.Status())...)
		return a.reportOf(findings)
	})
}

func (a *Agent) reportOf(findings []doctor.Finding) doctor.Report {
	r := doctor.NewReport(a.cfg.Version, time.Now(), findings)
	r.Agent, r.Site = a.identity.Agent, a.identity.Site
	return r
}

func (d *diagnosis) report(ctx context.Context, fresh bool, examine func(ctx context.Context) doctor.Report) (doctor.Report, error) {
	asked := time.Now()
	select {
	case d.turn <- struct{}{}:
		defer func() { <-d.turn }()
	case <-ctx.Done():
		return doctor.Report{}, ctx.Err()
	}
	if since := time.Since(d.last.At); since < diagnosisAge && (!fresh || d.begun.After(asked)) {
		return d.last, nil
	}
	begun := time.Now()
	looking, cancel := context.WithTimeout(ctx, diagnosisTime)
	defer cancel()
	r := examine(looking)
	if err := ctx.Err(); err != nil {
		return r, err // findings of an examination that was broken off would lie
	}
	if looking.Err() != nil { // in an outage that is when a report is needed
		whole := doctor.NewReport(r.Program, r.At, append(r.Findings, unfinished()))
		whole.Agent, whole.Site = r.Agent, r.Site
		return whole, nil // for this asker alone: the next may find out more
	}
	d.last, d.begun = r, begun
	return r, nil
}

// unfinished tells that time ran out.
func unfinished() doctor.Finding {
	return doctor.Finding{ID: "agent", Level: doctor.Warn,
		Seen: fmt.Sprintf("not everything was looked at: the examination was broken off after %s, and what says that no answer came may not have had the time for it", diagnosisTime),
		Todo: "mend what failed first, above all DNS, and look again"}
}

// diagnoseFar answers the control plane.
func (a *Agent) diagnoseFar(ctx context.Context) ([]byte, error) {
	r, err := a.Diagnose(ctx, false)
	if err != nil {
		return nil, err
	}
	return json.Marshal(r)
}
