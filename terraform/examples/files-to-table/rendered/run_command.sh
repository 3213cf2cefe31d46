# A function, so that all of it is read before anything else reads standard input.
run() {
  set -eu
  job=landfast-run project=acme-data region=europe-west1
  [ $# -gt 0 ] || { echo 'Give a command, such as: show TABLE' >&2; exit 2; }
  words=''
  for word in "$@"; do
    case $word in
      # Cloud Logging keeps lines of JSON as something else than lines.
      --output*) echo 'Cloud Logging has the text only: leave --output out.' >&2; exit 2 ;;
    esac
    words="$words$word|"
  done
  set -- --container=landfast "--args=^|^$words--config|/etc/landfast/landfast.yaml|--log|stackdriver"
  execution=$(gcloud run jobs execute "$job" --project="$project" --region="$region" --async --format='value(metadata.name)' "$@")
  echo "$execution" >&2
  finished=''
  unanswered=0
  while [ -z "$finished" ]; do
    sleep 5
    if finished=$(gcloud run jobs executions describe "$execution" --project="$project" --region="$region" --format='value(status.completionTime)'); then
      unanswered=0
    elif unanswered=$((unanswered + 1)) && [ "$unanswered" -ge 12 ]; then
      echo "nobody tells how it goes; it goes on as $execution" >&2
      exit 1
    fi
  done
  sleep 10 # until the log has all of it
  gcloud logging read "resource.type=\"cloud_run_job\" labels.\"run.googleapis.com/execution_name\"=\"$execution\" (textPayload:* OR jsonPayload.message:*)" \
    --project="$project" --freshness=1d --order=asc --format='value[separator=""](textPayload,jsonPayload.message)'
  [ "$(gcloud run jobs executions describe "$execution" --project="$project" --region="$region" --format='value(status.succeededCount)')" = 1 ]
}
run "$@" </dev/null
