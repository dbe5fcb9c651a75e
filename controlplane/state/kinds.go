package state

import (
	"fmt"
	"reflect"

	"github.com/crossdock/crossdock/controlplane/model"
)

// The kinds of commands. Numbers are for ever: they stand in logs.
const (
	kindBootstrap byte = 1 + iota
	kindPutPrincipal
	kindCreateJoinToken
	kindEnroll
	kindRenew
	kindRevoke
	kindPropose
	kindApprove
	kindPush
	kindAck
	kindResolve
	kindResolveException
	kindPutNode
	kindAdmitNode
	kindRemoveNode
	kindBeacon
	kindBeaconReport
	kindRebuild
	kindRaiseGeneration
	kindGreet
	kindNewEpoch
	kindBehind
	kindLoseMail
	kindReadmit
	kindAllowAgent
	kindForgetAgent
	kindPromote
	kindWithdraw
	kindReleaseSystem
	kindAddAuthority
	kindActivateAuthority
	kindRemoveAuthority
	kindForgetNode
	kindRescueAdmin
	kindLeaseNumbers
	kindReleaseRange
	kindAddRelease
	kindPutReleasePiece
	kindSteerRelease
	kindSetSecret
	kindDropSecret
	kindsEnd
)

type kind struct {
	of   reflect.Type
	make func() model.Command
}

func kindFor[C any, P interface {
	*C
	model.Command
}]() kind {
	return kind{reflect.TypeFor[P](), func() model.Command { return P(new(C)) }}
}

var kinds = [kindsEnd]kind{
	kindBootstrap:         kindFor[model.Bootstrap](),
	kindPutPrincipal:      kindFor[model.PutPrincipal](),
	kindCreateJoinToken:   kindFor[model.CreateJoinToken](),
	kindEnroll:            kindFor[model.Enroll](),
	kindRenew:             kindFor[model.Renew](),
	kindRevoke:            kindFor[model.Revoke](),
	kindPropose:           kindFor[model.Propose](),
	kindApprove:           kindFor[model.Approve](),
	kindPush:              kindFor[model.Push](),
	kindAck:               kindFor[model.Ack](),
	kindResolve:           kindFor[model.Resolve](),
	kindResolveException:  kindFor[model.ResolveException](),
	kindPutNode:           kindFor[model.PutNode](),
	kindAdmitNode:         kindFor[model.AdmitNode](),
	kindRemoveNode:        kindFor[model.RemoveNode](),
	kindBeacon:            kindFor[model.Beacon](),
	kindBeaconReport:      kindFor[model.BeaconReport](),
	kindRebuild:           kindFor[model.Rebuild](),
	kindRaiseGeneration:   kindFor[model.RaiseGeneration](),
	kindGreet:             kindFor[model.Greet](),
	kindNewEpoch:          kindFor[model.NewEpoch](),
	kindBehind:            kindFor[model.Behind](),
	kindLoseMail:          kindFor[model.LoseMail](),
	kindReadmit:           kindFor[model.Readmit](),
	kindAllowAgent:        kindFor[model.AllowAgent](),
	kindForgetAgent:       kindFor[model.ForgetAgent](),
	kindPromote:           kindFor[model.Promote](),
	kindWithdraw:          kindFor[model.Withdraw](),
	kindReleaseSystem:     kindFor[model.ReleaseSystem](),
	kindAddAuthority:      kindFor[model.AddAuthority](),
	kindActivateAuthority: kindFor[model.ActivateAuthority](),
	kindRemoveAuthority:   kindFor[model.RemoveAuthority](),
	kindForgetNode:        kindFor[model.ForgetNode](),
	kindRescueAdmin:       kindFor[model.RescueAdmin](),
	kindLeaseNumbers:      kindFor[model.LeaseNumbers](),
	kindReleaseRange:      kindFor[model.ReleaseRange](),
	kindAddRelease:        kindFor[model.AddRelease](),
	kindPutReleasePiece:   kindFor[model.PutReleasePiece](),
	kindSteerRelease:      kindFor[model.SteerRelease](),
	kindSetSecret:         kindFor[model.SetSecret](),
	kindDropSecret:        kindFor[model.DropSecret](),
}

func kindOf(cmd model.Command) (byte, error) {
	of := reflect.TypeOf(cmd)
	for number := range kinds {
		if number > 0 && kinds[number].of == of {
			return byte(number), nil
		}
	}
	return 0, fmt.Errorf("encode command: %T has no kind", cmd)
}

// newCommand makes an empty command of a kind; nil for a kind that there is not.
func newCommand(number byte) model.Command {
	if number >= kindsEnd || kinds[number].make == nil {
		return nil
	}
	return kinds[number].make()
}
