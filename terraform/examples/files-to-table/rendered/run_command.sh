# A function, so that all of it is read before anything else reads standard input.
run() {
  set -eu
  job=landfast-maintain project=acme-data region=europe-west1
  [ $# -gt 0 ] || { echo 'give a command: … | sh -s -- show TABLE' >&2; exit 2; }
  words=$1
  shift
  for word in "$@"; do words="$words|$word"; done
  set -- "--args=^|^$words|--config|/etc/landfast/landfast.yaml|--log|stackdriver"
  execution=$(gcloud run jobs execute "$job" --project="$project" --region="$region" --async --format='value(metadata.name)' "$@")
  echo "$execution" >&2
  finished=''
  while [ -z "$finished" ]; do
    sleep 5
    finished=$(gcloud run jobs executions describe "$execution" --project="$project" --region="$region" --format='value(status.completionTime)')
  done
  sleep 10 # until the log has all of it
  gcloud logging read "resource.type=\"cloud_run_job\" labels.\"run.googleapis.com/execution_name\"=\"$execution\" (textPayload:* OR jsonPayload.message:*)" \
    --project="$project" --freshness=1d --order=asc --format='value[separator=""](textPayload,jsonPayload.message)'
  [ "$(gcloud run jobs executions describe "$execution" --project="$project" --region="$region" --format='value(status.succeededCount)')" = 1 ]
}
run "$@" </dev/null
