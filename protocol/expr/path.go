package expr

import "github.com/itchyny/gojq"

// Path gives the names that an expression goes along, if it does nothing but read one member,
// such as .orderId or .customer.id.
func (e *Expr) Path() (names []string, plain bool) {
	q, err := gojq.Parse(e.source)
	if err != nil || q.Term == nil || q.Meta != nil || len(q.Imports) > 0 || len(q.FuncDefs) > 0 || len(q.Patterns) > 0 {
		return nil, false
	}
	var steps []*gojq.Index
	switch q.Term.Type {
	case gojq.TermTypeIdentity:
	case gojq.TermTypeIndex:
		steps = append(steps, q.Term.Index)
	default:
		return nil, false
	}
	for _, suffix := range q.Term.SuffixList {
		if suffix.Index == nil || suffix.Iter || suffix.Optional {
			return nil, false
		}
		steps = append(steps, suffix.Index)
	}
	for _, step := range steps {
		name, plain := memberName(step)
		if !plain {
			return nil, false
		}
		names = append(names, name)
	}
	return names, len(names) > 0
}

// memberName is the name that an index reads, if it is one and written out.
func memberName(at *gojq.Index) (string, bool) {
	switch {
	case at.IsSlice, at.Start != nil, at.End != nil:
		return "", false
	case at.Str != nil:
		return at.Str.Str, len(at.Str.Queries) == 0
	}
	return at.Name, true
}
