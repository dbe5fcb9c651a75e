package api

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
)

// The limits of what an agent may say of itself.
const (
	diagnosisTimeout = 50 * time.Second // below what callers wait
	maxFindings      = 1000
	maxFinding       = 4 << 10 // bytes of one text
	maxNotTested     = 64
)

// ExamineAgent has an agent look at all that it leans on.
func (s *Server) ExamineAgent(ctx context.Context, r ExamineAgentRequestObject) (ExamineAgentResponseObject, error) {
	a, known := s.store.Agent(r.Name)
	if !known {
		return nil, model.Errorf(model.NotFound, "there is no agent %s", r.Name)
	}
	ctx, cancel := context.WithTimeout(ctx, diagnosisTimeout)
	defer cancel()
	text, err := s.agents.Ask(ctx, a.Name, "doctor", json.RawMessage("{}"))
	if err != nil {
		return nil, err
	}
	said, err := readDiagnosis(text)
	if err != nil {
		return nil, model.Errorf(model.Unavailable, "agent %s gave an answer that is not understood: %v", a.Name, err)
	}
	said.Agent, said.Site = a.Name, a.Site // an agent speaks for itself only, whatever it wrote
	return ExamineAgent200JSONResponse(said), nil
}

// readDiagnosis takes from an answer what the document promises.
func readDiagnosis(text json.RawMessage) (Diagnosis, error) {
	var said Diagnosis
	if err := json.Unmarshal(text, &said); err != nil {
		return said, err
	}
	out := Diagnosis{Version: said.Version, Program: short(said.Program), At: said.At.UTC(), Worst: FindingLevelOk, Summary: short(said.Summary),
		Findings: []Finding{}, NotTested: []string{}}
	for _, f := range said.Findings[:min(len(said.Findings), maxFindings)] {
		if f.Level != FindingLevelOk && f.Level != FindingLevelWarn {
			f.Level = FindingLevelFail // what is not understood is not well
		}
		if f.Level == FindingLevelFail || f.Level == FindingLevelWarn && out.Worst == FindingLevelOk {
			out.Worst = f.Level
		}
		out.Findings = append(out.Findings, Finding{ID: short(f.ID), Level: f.Level, Seen: short(f.Seen), Todo: short(f.Todo), Doc: short(f.Doc)})
	}
	for _, line := range said.NotTested[:min(len(said.NotTested), maxNotTested)] {
		out.NotTested = append(out.NotTested, short(line))
	}
	return out, nil
}

func short(text string) string {
	if len(text) <= maxFinding {
		return text
	}
	return strings.ToValidUTF8(text[:maxFinding], "") + "..."
}
