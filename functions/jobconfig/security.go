package jobconfig

import (
	"math"
	"slices"
)

func securityContext() kind[SecurityContext] {
	names := list(text())
	capabilities := object([]property[Capabilities]{
		key("add", "Capabilities to add.", names, func(c *Capabilities) *[]string { return &c.Add }, example([]string{"NET_BIND_SERVICE"})),
		key("drop", "Capabilities to drop.", names, func(c *Capabilities) *[]string { return &c.Drop }, example([]string{"ALL"})),
	}, nil, nil)
	const (
		replace    = "Capabilities. They replace all of the installation's defaults."
		user       = "User id of the process."
		group      = "Group id of the process."
		escalation = "Allows processes to gain more privileges."
	)
	id := integer(0, math.MaxInt32, "")
	return object([]property[SecurityContext]{
		key("capabilities", replace, optional(capabilities), func(s *SecurityContext) **Capabilities { return &s.Capabilities }),
		key("privileged", "Runs with all privileges on the node.", truth(), func(s *SecurityContext) **bool { return &s.Privileged }, example(true)),
		key("runAsUser", user, id, func(s *SecurityContext) **int64 { return &s.RunAsUser }, example(1000)),
		key("runAsGroup", group, id, func(s *SecurityContext) **int64 { return &s.RunAsGroup }, example(1000)),
		key("runAsNonRoot", "Refuses to run as root.", truth(), func(s *SecurityContext) **bool { return &s.RunAsNonRoot }, example(true)),
		key("readOnlyRootFilesystem", "Makes everything read-only except volumes, such as /tmp.", truth(), func(s *SecurityContext) **bool { return &s.ReadOnlyRootFilesystem }, example(false)),
		key("allowPrivilegeEscalation", escalation, truth(), func(s *SecurityContext) **bool { return &s.AllowPrivilegeEscalation }, example(false)),
		key("procMount", "How /proc is mounted.", procMount(), func(s *SecurityContext) **string { return &s.ProcMount }, example("Default")),
		key("seccompProfile", "Seccomp profile.", optional(seccompProfile()), func(s *SecurityContext) **SeccompProfile { return &s.SeccompProfile }),
	}, (*decoder).checkSecurity, securityRules)
}

func securityRules() schema {
	is := func(name string, values ...any) schema {
		return schema{"required": []string{name}, "properties": schema{name: schema{"enum": values}}}
	}
	isTrue, isFalse := append([]any{true}, trueTexts()...), append([]any{false}, falseTexts()...)
	added := schema{"type": "array", "contains": schema{"const": "CAP_SYS_ADMIN"}}
	addsSysAdmin := schema{"required": []string{"capabilities"}, "properties": schema{"capabilities": schema{
		"type": "object", "required": []string{"add"}, "properties": schema{"add": added},
	}}}
	const privileged, escalation = "privileged", "allowPrivilegeEscalation"
	return schema{"allOf": []schema{
		{"if": is("runAsUser", 0), "then": is("runAsNonRoot", isFalse...), "errorMessage": "runAsUser 0 needs runAsNonRoot: false"},
		{"if": addsSysAdmin, "then": is(escalation, isTrue...), "errorMessage": "CAP_SYS_ADMIN needs allowPrivilegeEscalation: true"},
		{
			"if": is(privileged, isTrue...), "then": schema{"properties": schema{escalation: schema{"not": schema{"enum": isFalse}}}},
			"errorMessage": "privileged: true needs allowPrivilegeEscalation: true",
		},
	}}
}

func (d *decoder) checkSecurity(at yamlValue, _ members, context *SecurityContext) {
	if context.RunAsUser != nil && *context.RunAsUser == 0 && (context.RunAsNonRoot == nil || *context.RunAsNonRoot) {
		d.wrong(at, "runAsUser 0 needs runAsNonRoot: false")
	}
	if capabilities := context.Capabilities; capabilities != nil && slices.Contains(capabilities.Add, "CAP_SYS_ADMIN") && !isTrue(context.AllowPrivilegeEscalation) {
		d.wrong(at, "capability CAP_SYS_ADMIN needs allowPrivilegeEscalation: true; write capabilities without CAP_")
	}
	if isTrue(context.Privileged) && context.AllowPrivilegeEscalation != nil && !*context.AllowPrivilegeEscalation {
		d.wrong(at, "privileged: true needs allowPrivilegeEscalation: true")
	}
}

func procMount() kind[*string] {
	return kind[*string]{oneOf("Default").schema, func(d *decoder, at yamlValue, into **string) {
		mount := d.oneOf(at, "Default", "Unmasked")
		if mount == "Unmasked" {
			d.wrong(at, "Unmasked needs hostUsers: false, which is not supported")
		}
		if mount != "" {
			*into = &mount
		}
	}}
}

func seccompProfile() kind[SeccompProfile] {
	profile := kind[*string]{text().schema, func(d *decoder, at yamlValue, into **string) {
		if path := d.text(at); path != "" {
			*into = &path
		}
	}}
	types := []string{"RuntimeDefault", "Localhost", "Unconfined"}
	return object([]property[SeccompProfile]{
		key("type", "Type of the profile.", oneOf(types...), func(p *SeccompProfile) *string { return &p.Type }, example("RuntimeDefault")),
		key("localhostProfile", "Path of a profile on the node, for type Localhost.", profile, func(p *SeccompProfile) **string { return &p.LocalhostProfile }, example("profiles/audit.json")),
	}, func(d *decoder, at yamlValue, _ members, profile *SeccompProfile) {
		switch {
		case profile.Type == "" && !d.hasMistake(at.path+".type"):
			d.wrong(at, "needs a type")
		case (profile.Type == "Localhost") != (profile.LocalhostProfile != nil):
			d.wrong(at, "needs localhostProfile if, and only if, the type is Localhost")
		case profile.LocalhostProfile != nil && !isBelow(*profile.LocalhostProfile):
			d.wrong(at, "has a localhostProfile outside of the kubelet's folder seccomp: %q", cut(*profile.LocalhostProfile))
		}
	}, seccompRules)
}

func seccompRules() schema {
	path := noContainer("null").with(schema{"minLength": 1, "allOf": []schema{below()}})
	other := schema{"type": schema{"enum": []string{"RuntimeDefault", "Unconfined"}}, "localhostProfile": schema{"enum": []any{"", nil}}}
	return schema{
		"anyOf": []schema{
			{"type": "null"},
			{
				"type": "object", "required": []string{"type", "localhostProfile"},
				"properties": schema{"type": schema{"const": "Localhost"}, "localhostProfile": path},
			},
			{"type": "object", "required": []string{"type"}, "properties": other},
		},
		"errorMessage": "needs a type, and with type Localhost only, a localhostProfile that is a relative path without ..",
	}
}
