// Package files is the protocol between the bridge's gateway and its clients, which read the files of Keptn's
// projects without Keptn's token: paths, levels, headers, limits, and the client.
package files
