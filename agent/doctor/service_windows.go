package doctor

import (
	"context"
	"fmt"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc/mgr"
)

// Service asks the service manager about the agent's service.
func Service(_ context.Context, _, name string, running bool) Finding {
	u, err := look(name)
	if err != nil {
		return Finding{ID: "service", Level: Warn, Seen: err.Error(), Todo: "run the doctor as administrator, or see services.msc"}
	}
	return u.service(name, running)
}

func look(name string) (u unit, err error) {
	// Only to look: mgr.Connect would ask for more than a common user has.
	manager, err := windows.OpenSCManager(nil, nil, windows.SC_MANAGER_CONNECT)
	if err != nil {
		return u, fmt.Errorf("service manager: %w", err)
	}
	defer windows.CloseServiceHandle(manager)
	text, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return u, err
	}
	handle, err := windows.OpenService(manager, text, windows.SERVICE_QUERY_CONFIG)
	if err != nil {
		return u, nil // there is none by that name
	}
	service := &mgr.Service{Name: name, Handle: handle}
	defer service.Close()
	config, err := service.Config()
	if err != nil {
		return u, err
	}
	actions, err := service.RecoveryActions()
	if err != nil {
		return u, err
	}
	u = unit{present: true, enabled: config.StartType == mgr.StartAutomatic, how: fmt.Sprintf("start type %d, %d recovery actions", config.StartType, len(actions))}
	for _, a := range actions {
		u.restarts = u.restarts || a.Type == mgr.ServiceRestart
	}
	return u, nil
}
