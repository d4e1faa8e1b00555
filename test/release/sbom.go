package main

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"fmt"
	"os"
	"time"

	"github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx"
	"github.com/spdx/tools-golang/spdx/v2/common"
)

// describe writes the SBOM of a program: its modules, from its build information. ko does so for images.
func (r release) describe(name string) error {
	built, err := buildinfo.ReadFile(r.path(name))
	if err != nil {
		return fmt.Errorf("read the modules of %s: %w", name, err)
	}
	content, err := os.ReadFile(r.path(name))
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	sum := fmt.Sprintf("%x", sha256.Sum256(content))
	document := &spdx.Document{
		SPDXVersion: spdx.Version, DataLicense: spdx.DataLicense, SPDXIdentifier: "DOCUMENT", DocumentName: name,
		DocumentNamespace: "https://" + module + "/releases/" + r.version + "/" + name + "/" + sum,
		CreationInfo:      &spdx.CreationInfo{Creators: []common.Creator{{CreatorType: "Tool", Creator: "make release"}}, Created: time.Now().UTC().Format(time.RFC3339)},
	}
	add := func(id common.ElementID, path, version string) *spdx.Package {
		found := &spdx.Package{
			PackageName: path, PackageSPDXIdentifier: id, PackageVersion: version, PackageDownloadLocation: "https://proxy.golang.org/" + path + "/@v/" + version + ".zip",
			PackageLicenseConcluded: "NOASSERTION", PackageLicenseDeclared: "NOASSERTION", PackageCopyrightText: "NOASSERTION",
			PackageExternalReferences: []*spdx.PackageExternalReference{{Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL, Locator: "pkg:golang/" + path + "@" + version}},
		}
		document.Packages = append(document.Packages, found)
		return found
	}
	relate := func(from, to common.ElementID, how string) {
		document.Relationships = append(document.Relationships, &spdx.Relationship{RefA: common.MakeDocElementID("", string(from)), RefB: common.MakeDocElementID("", string(to)), Relationship: how})
	}
	program := add("program", module, r.version)
	program.PackageFileName, program.PackageDownloadLocation = name, "NOASSERTION"
	program.PackageChecksums = []common.Checksum{{Algorithm: common.SHA256, Value: sum}}
	relate("DOCUMENT", "program", common.TypeRelationshipDescribe)
	for number, dependency := range built.Deps {
		id := common.ElementID(fmt.Sprintf("module-%d", number+1))
		if dependency.Replace != nil {
			dependency = dependency.Replace
		}
		add(id, dependency.Path, dependency.Version)
		relate("program", id, common.TypeRelationshipDependsOn)
	}
	var text bytes.Buffer
	if err := json.Write(document, &text, json.Indent("  ")); err != nil {
		return fmt.Errorf("write the SBOM of %s: %w", name, err)
	}
	return r.write("sboms/"+name+".spdx.json", text.Bytes())
}
