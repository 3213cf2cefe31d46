// A provider of Terraform that knows the schemas of Google's resources and does nothing: with it `terraform validate` finds what
// is misspelt or missing, and `terraform test` plans and applies with mock_provider, where Google's own provider cannot be had.
//
// The program answers as google or as time, by the name of its file. What is in schema.json is said there.
package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/hashicorp/terraform-plugin-go/tfprotov5"
	"github.com/hashicorp/terraform-plugin-go/tfprotov5/tf5server"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

//go:embed schema.json
var google []byte

// time_sleep of hashicorp/time 0.13, whole.
const time = `{"provider_schemas": {"registry.terraform.io/hashicorp/time": {
	"provider": {"version": 0, "block": {}},
	"resource_schemas": {"time_sleep": {"version": 0, "block": {"attributes": {
		"create_duration": {"type": "string", "optional": true},
		"destroy_duration": {"type": "string", "optional": true},
		"id": {"type": "string", "computed": true},
		"triggers": {"type": ["map", "string"], "optional": true}}}}}}}}`

// The form of `terraform providers schema -json`, as far as it is needed.
type document struct {
	ProviderSchemas map[string]struct {
		Provider          schema            `json:"provider"`
		ResourceSchemas   map[string]schema `json:"resource_schemas"`
		DataSourceSchemas map[string]schema `json:"data_source_schemas"`
	} `json:"provider_schemas"`
}

type schema struct {
	Version int64 `json:"version"`
	Block   block `json:"block"`
}

type block struct {
	Attributes map[string]struct {
		Type      kind `json:"type"`
		Required  bool     `json:"required"`
		Optional  bool     `json:"optional"`
		Computed  bool     `json:"computed"`
		Sensitive bool     `json:"sensitive"`
	} `json:"attributes"`
	BlockTypes map[string]struct {
		NestingMode string `json:"nesting_mode"`
		MinItems    int64  `json:"min_items"`
		MaxItems    int64  `json:"max_items"`
		Block       block  `json:"block"`
	} `json:"block_types"`
}

// A type as JSON has it: "string", or ["list", "string"].
type kind struct{ tftypes.Type }

func (t *kind) UnmarshalJSON(text []byte) error {
	var err error
	//nolint:staticcheck // The only reader of this form that the library has.
	t.Type, err = tftypes.ParseJSONType(text)
	return err
}

func (b block) proto() (*tfprotov5.SchemaBlock, error) {
	out := &tfprotov5.SchemaBlock{}
	for name, a := range b.Attributes {
		out.Attributes = append(out.Attributes, &tfprotov5.SchemaAttribute{
			Name: name, Type: a.Type.Type, Required: a.Required, Optional: a.Optional, Computed: a.Computed, Sensitive: a.Sensitive,
		})
	}
	modes := map[string]tfprotov5.SchemaNestedBlockNestingMode{
		"list":   tfprotov5.SchemaNestedBlockNestingModeList,
		"set":    tfprotov5.SchemaNestedBlockNestingModeSet,
		"single": tfprotov5.SchemaNestedBlockNestingModeSingle,
	}
	for name, n := range b.BlockTypes {
		mode, known := modes[n.NestingMode]
		if !known {
			return nil, fmt.Errorf("block %s nests by %q", name, n.NestingMode)
		}
		inner, err := n.Block.proto()
		if err != nil {
			return nil, err
		}
		out.BlockTypes = append(out.BlockTypes, &tfprotov5.SchemaNestedBlock{
			TypeName: name, Block: inner, Nesting: mode, MinItems: n.MinItems, MaxItems: n.MaxItems,
		})
	}
	sort.Slice(out.Attributes, func(i, j int) bool { return out.Attributes[i].Name < out.Attributes[j].Name })
	sort.Slice(out.BlockTypes, func(i, j int) bool { return out.BlockTypes[i].TypeName < out.BlockTypes[j].TypeName })
	return out, nil
}

func all(in map[string]schema) (map[string]*tfprotov5.Schema, error) {
	out := map[string]*tfprotov5.Schema{}
	for name, s := range in {
		b, err := s.Block.proto()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out[name] = &tfprotov5.Schema{Version: s.Version, Block: b}
	}
	return out, nil
}

// What mock_provider and validate ask for. Everything else is the embedded interface's, which is nil: reading or changing
// anything is a crash, never a silent success.
type server struct {
	tfprotov5.ProviderServer
	schemas *tfprotov5.GetProviderSchemaResponse
}

func (s *server) GetMetadata(context.Context, *tfprotov5.GetMetadataRequest) (*tfprotov5.GetMetadataResponse, error) {
	out := &tfprotov5.GetMetadataResponse{}
	for name := range s.schemas.ResourceSchemas {
		out.Resources = append(out.Resources, tfprotov5.ResourceMetadata{TypeName: name})
	}
	for name := range s.schemas.DataSourceSchemas {
		out.DataSources = append(out.DataSources, tfprotov5.DataSourceMetadata{TypeName: name})
	}
	return out, nil
}

func (s *server) GetProviderSchema(context.Context, *tfprotov5.GetProviderSchemaRequest) (*tfprotov5.GetProviderSchemaResponse, error) {
	return s.schemas, nil
}

func (s *server) GetResourceIdentitySchemas(context.Context, *tfprotov5.GetResourceIdentitySchemasRequest) (*tfprotov5.GetResourceIdentitySchemasResponse, error) {
	return &tfprotov5.GetResourceIdentitySchemasResponse{}, nil
}

func (s *server) PrepareProviderConfig(_ context.Context, r *tfprotov5.PrepareProviderConfigRequest) (*tfprotov5.PrepareProviderConfigResponse, error) {
	return &tfprotov5.PrepareProviderConfigResponse{PreparedConfig: r.Config}, nil
}

func (s *server) ValidateResourceTypeConfig(context.Context, *tfprotov5.ValidateResourceTypeConfigRequest) (*tfprotov5.ValidateResourceTypeConfigResponse, error) {
	return &tfprotov5.ValidateResourceTypeConfigResponse{}, nil
}

func (s *server) ValidateDataSourceConfig(context.Context, *tfprotov5.ValidateDataSourceConfigRequest) (*tfprotov5.ValidateDataSourceConfigResponse, error) {
	return &tfprotov5.ValidateDataSourceConfigResponse{}, nil
}

func (s *server) StopProvider(context.Context, *tfprotov5.StopProviderRequest) (*tfprotov5.StopProviderResponse, error) {
	return &tfprotov5.StopProviderResponse{}, nil
}

func newServer(text []byte, address string) (*server, error) {
	var doc document
	if err := json.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	p, known := doc.ProviderSchemas[address]
	if !known {
		return nil, fmt.Errorf("no schema of %s", address)
	}
	own, err := all(map[string]schema{"provider": p.Provider})
	if err != nil {
		return nil, err
	}
	resources, err := all(p.ResourceSchemas)
	if err != nil {
		return nil, err
	}
	data, err := all(p.DataSourceSchemas)
	if err != nil {
		return nil, err
	}
	return &server{schemas: &tfprotov5.GetProviderSchemaResponse{
		ServerCapabilities: &tfprotov5.ServerCapabilities{GetProviderSchemaOptional: true},
		Provider:           own["provider"], ResourceSchemas: resources, DataSourceSchemas: data,
	}}, nil
}

func main() {
	text, name := google, "google"
	if strings.Contains(filepath.Base(os.Args[0]), "provider-time") {
		text, name = []byte(time), "time"
	}
	address := "registry.terraform.io/hashicorp/" + name
	s, err := newServer(text, address)
	if err != nil {
		log.Fatalf("%s: %v", address, err)
	}
	if err := tf5server.Serve(address, func() tfprotov5.ProviderServer { return s }); err != nil {
		log.Fatal(err)
	}
}
