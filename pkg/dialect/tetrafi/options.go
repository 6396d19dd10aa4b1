package tetrafi

import (
	"errors"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
)

// options are the members of POST and PATCH that set what an endpoint is given
// beyond what all get. null takes one back.
type options struct {
	Headers   orNull[headers] `json:"headers"`
	ASCIIBody orNull[bool]    `json:"asciiBody"`
	Filter    jsontext.Value  `json:"filter"`

	Ordered       orNull[bool]    `json:"ordered"`
	MaxInFlight   orNull[int]     `json:"maxInFlight"`
	RatePerSecond orNull[float64] `json:"ratePerSecond"`
}

func (o *options) patch() endpoint.OptionsPatch {
	p := endpoint.OptionsPatch{ASCIIBody: o.ASCIIBody.value, Ordered: o.Ordered.value, MaxInFlight: o.MaxInFlight.value, RatePerSecond: o.RatePerSecond.value}
	if h := o.Headers.value; h != nil {
		p.Headers = &h.list
	}
	switch kind := o.Filter.Kind(); {
	case len(o.Filter) == 0:
	case kind == 'n':
		p.Filter = new(string)
	default:
		text := string(o.Filter)
		p.Filter = &text
	}
	return p
}

// appendOptions shows those that are set. Of headers it shows the names: a value may
// be what the receiver knows its callers by, and is shown as little as a secret.
func appendOptions(dst []byte, o *endpoint.Options) []byte {
	for i, h := range o.Headers {
		if i == 0 {
			dst = append(dst, `,"headers":[`...)
		} else {
			dst = append(dst, ',')
		}
		dst = dialect.AppendString(dst, h.Name)
	}
	if len(o.Headers) > 0 {
		dst = append(dst, ']')
	}
	if o.ASCIIBody {
		dst = append(dst, `,"asciiBody":true`...)
	}
	if o.Ordered {
		dst = append(dst, `,"ordered":true`...)
	}
	if o.MaxInFlight > 0 {
		dst = strconv.AppendInt(append(dst, `,"maxInFlight":`...), int64(o.MaxInFlight), 10)
	}
	if o.RatePerSecond > 0 {
		dst = strconv.AppendFloat(append(dst, `,"ratePerSecond":`...), o.RatePerSecond, 'f', -1, 64)
	}
	if o.Filter != "" {
		dst = append(append(dst, `,"filter":`...), o.Filter...)
	}
	return dst
}

// appendOverlap says until when secrets of before sign beside the newest, once one
// was rotated.
func appendOverlap(dst []byte, ep *endpoint.Endpoint) []byte {
	if len(ep.Previous) == 0 {
		return dst
	}
	until := ep.Previous[0].Until
	for _, p := range ep.Previous {
		if p.Until.After(until) {
			until = p.Until
		}
	}
	return dialect.AppendMember(dst, "overlapUntil", dialect.Timestamp(until))
}

// orNull is a member that may be null, which stands for its zero value; nil: it
// isn't there.
type orNull[T any] struct{ value *T }

// UnmarshalJSONFrom reads what is there.
func (v *orNull[T]) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	v.value = new(T)
	return json.UnmarshalDecode(dec, v.value)
}

// errKind is told by DecodeStrict as a value of the wrong kind.
var errKind = errors.New("not an object")

// headers is an object of names and values, in its order.
type headers struct{ list []endpoint.Header }

// UnmarshalJSONFrom reads the object.
func (h *headers) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	switch tok, err := dec.ReadToken(); {
	case err != nil:
		return err
	case tok.Kind() == 'n':
		return nil
	case tok.Kind() != '{':
		return errKind
	}
	for dec.PeekKind() != '}' {
		var one endpoint.Header
		if err := json.UnmarshalDecode(dec, &one.Name); err != nil {
			return err
		}
		if err := json.UnmarshalDecode(dec, &one.Value); err != nil {
			return err
		}
		h.list = append(h.list, one)
	}
	_, err := dec.ReadToken()
	return err
}
