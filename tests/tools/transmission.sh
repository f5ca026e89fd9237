#!/usr/bin/env bash
# Downloads from the seeder with Transmission across a network of two namespaces.
# usage: transmission.sh PROXYTORRENT FOLDER   (as root; prints "the same" if the downloaded file is identical)
set -euo pipefail
program=$1 folder=$2
tag=pt$$
server=$tag-s client=$tag-c pids=()

clean_up() {
  for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
  ip netns del "$server" 2>/dev/null || true
  ip netns del "$client" 2>/dev/null || true
}
trap clean_up EXIT

ip netns add "$server"
ip netns add "$client"
ip link add "$tag-0" netns "$server" type veth peer name "$tag-1" netns "$client"
ip -n "$server" addr add 198.18.0.1/24 dev "$tag-0"
ip -n "$client" addr add 198.18.0.2/24 dev "$tag-1"
for end in "$server lo" "$server $tag-0" "$client lo" "$client $tag-1"; do
  # shellcheck disable=SC2086
  set -- $end; ip -n "$1" link set "$2" up
done

mkdir -p "$folder/www" "$folder/down" "$folder/config"
echo "{\"utp-enabled\": false, \"dht-enabled\": false, \"lpd-enabled\": false, \"peer-port-random-on-start\": false}" > "$folder/config/settings.json"
head -c 3000000 /dev/urandom > "$folder/www/file.bin"
ip netns exec "$server" python3 -m http.server 8080 --bind 127.0.0.1 --directory "$folder/www" >/dev/null 2>&1 &
pids+=($!)
cd "$folder"
ip netns exec "$server" env -i HOST=198.18.0.1 PORT=8000 SEEDER__LISTEN=198.18.0.1:6881 STORAGE__BASE_PATH="$folder/data" \
  SECURITY__AUTH_ENABLED=false PROXY__PROXY_ENABLED=false FETCHER__ALLOW_NETWORKS=127.0.0.1/32 \
  "$program" serve >server.log 2>&1 &
pids+=($!)
api=http://198.18.0.1:8000
ask() { ip netns exec "$server" curl -s --retry 50 --retry-connrefused --retry-delay 0 --retry-max-time 30 "$@"; }
ask -o /dev/null http://127.0.0.1:8080/
ask -o /dev/null $api/v1/health
ip netns exec "$server" env -i CLIENT__SERVER=$api "$program" get http://127.0.0.1:8080/file.bin -o "$folder" >/dev/null

ip netns exec "$client" transmission-cli --config-dir "$folder/config" --encryption-required --download-dir "$folder/down" \
  --no-portmap "$folder/file.bin.torrent" >transmission.log 2>&1 &
pids+=($!)
for _ in $(seq 300); do
  if cmp -s "$folder/down/file.bin" "$folder/www/file.bin"; then
    echo the same
    exit 0
  fi
  sleep 0.1 # polling interval
done
tail -c 2000 transmission.log server.log >&2
exit 1
