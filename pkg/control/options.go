package control

import (
	"fmt"

	"github.com/go-json-experiment/json"

	"sluice/pkg/endpoint"
	"sluice/pkg/filter"
)

// optionsVersion is the version of a command that sets options: before 2 there were
// none, and before 3 a filter asked for data only.
func optionsVersion(p *endpoint.OptionsPatch, headers []byte) (needs, known int) {
	if p.Filter != nil {
		if f, err := filter.Of(*p.Filter); err == nil && f.Attributes() {
			return 3, 3
		}
	}
	if p.IsZero() && headers == nil {
		return 1, 3
	}
	return 2, 3
}

// checkOptions asks no more than that the state can hold them. What may be set is
// for who gives the command to say, and may be another thing in a later release.
func checkOptions(p *endpoint.OptionsPatch) error {
	if n := p.MaxInFlight; n != nil && *n < 0 {
		return fmt.Errorf("maxInFlight is %d", *n)
	}
	if r := p.RatePerSecond; r != nil && *r < 0 {
		return fmt.Errorf("ratePerSecond is %v", *r)
	}
	if f := p.Filter; f != nil && *f != "" {
		if _, err := filter.Of(*f); err != nil {
			return err
		}
	}
	return nil
}

// headersVersion seals headers with what no secret has.
const headersVersion = 0

// sealHeaders gives nil where there is nothing to be said of headers; none are
// sealed, too.
func (s *Sealer) sealHeaders(headers *[]endpoint.Header, org, id string) ([]byte, error) {
	if headers == nil {
		return nil, nil
	}
	pairs := make([][2]string, len(*headers))
	for i, h := range *headers {
		pairs[i] = [2]string{h.Name, h.Value}
	}
	text, err := json.Marshal(pairs)
	if err != nil {
		return nil, fmt.Errorf("headers: %w", err)
	}
	return s.Seal(text, org, id, headersVersion), nil
}

// setOptions does what the patch says of an endpoint's options.
func setOptions(ep *endpoint.Endpoint, sealed *sealed, p *endpoint.OptionsPatch, headers []byte) {
	ep.Options.Apply(p)
	switch {
	case p.Headers == nil:
	case len(*p.Headers) == 0:
		ep.Options.Headers, sealed.headers = nil, ""
	default:
		sealed.headers = string(headers)
	}
}

func (s *Sealer) openHeaders(sealed []byte, org, id string) (*[]endpoint.Header, error) {
	if len(sealed) == 0 {
		return nil, nil
	}
	text, err := s.Open(sealed, org, id, headersVersion)
	if err != nil {
		return nil, fmt.Errorf("headers: %w", err)
	}
	var pairs [][2]string
	if err := json.Unmarshal(text, &pairs); err != nil {
		return nil, fmt.Errorf("headers: %w", err)
	}
	headers := make([]endpoint.Header, len(pairs))
	for i, p := range pairs {
		headers[i] = endpoint.Header{Name: p[0], Value: p[1]}
	}
	return &headers, nil
}
