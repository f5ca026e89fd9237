#!/usr/bin/env python3
"""Runs ProxyTorrent on an AWS emulated on this machine (ministack): deploys template.yaml with CloudFormation and
runs the seeder container as a process. The template is deployed unchanged, except that the code of each function is
the local binary.

usage: run.py --binaries DIR [--built DIR] [--port PORT] [--seeders N] [--seeder-wrapper PROGRAM] [--watch]
  [--setting NAME=VALUE ...] [--parameter NAME=VALUE ...]
Prints the URL and the token, then the outputs of the stack and the seeders as one line of JSON. It ends when all
seeders have exited, or any other process has. With --built it deploys the functions
that `sam build` left in DIR, with `sam deploy`, and the nested stacks that the parameters ask for. With --seeder-wrapper, PROGRAM starts the seeders: its argument is the
binary. With --watch `cargo lambda watch` serves the API and rebuilds a
function when its source changes; the functions of the queues are not rebuilt. SIGTERM and SIGINT stop all processes.
"""

import argparse
import http.client
import http.server
import io
import json
import os
import pathlib
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zipfile

import boto3
from botocore.config import Config

ROOT = pathlib.Path(__file__).resolve().parents[2]
STACK = "proxytorrent"
CODE = "code"
# What the emulator lacks: scaling, and alarms on an expression.
UNSUPPORTED = ["ScalableTarget", "Scaling", "ApiErrors", "FetchDelay", "FunctionErrors", "PackageDelay", "TableThrottles"]
CAPABILITIES = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
REGION = "us-east-1"

# The functions have no development profile, so the settings that differ from production are set here.
SETTINGS = {"PROXY__PROXY_ENABLED": "false", "MONITORING__JSON_LOGS": "false"}
TOKEN = "emulated"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start_emulator(folder):
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    emulator = subprocess.Popen(
        [pathlib.Path(sys.executable).with_name("ministack")],
        env={
            **os.environ,
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            "AWS_ENDPOINT_URL": endpoint,
            "IOT_MTLS_ENABLED": "0",
            # Not the system's temporary folder: files that the emulator extracts there would stay.
            "TMPDIR": folder,
        },
        cwd=folder,
        stdout=open(f"{folder}/emulator.log", "w"),
        stderr=subprocess.STDOUT,
    )
    deadline = time.monotonic() + 60
    while socket.socket().connect_ex(("127.0.0.1", port)):
        if emulator.poll() is not None or time.monotonic() > deadline:
            sys.exit("the emulator did not start: " + open(f"{folder}/emulator.log").read())
        time.sleep(0.02)  # polling interval
    return emulator, endpoint


def client(service, endpoint):
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    config = Config(retries={"max_attempts": 10})
    return boto3.client(service, endpoint_url=endpoint, region_name=REGION, config=config, **keys)


def bootstrap(binary):
    """Returns a zip file with the code of a function that runs the local binary."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        info = zipfile.ZipInfo("bootstrap")
        info.external_attr = 0o755 << 16
        file.writestr(info, f"#!/bin/sh\nexec {binary}\n")
    return archive.getvalue()


def with_settings(template, settings):
    variables = "".join(f"        {name}: {json.dumps(value)}\n" for name, value in settings.items())
    return template.replace("      Variables:\n", "      Variables:\n" + variables, 1)


def deploy_binaries(endpoint, binaries, settings, parameters, folder):
    """Deploys template.yaml with the local binaries as the code of the functions."""
    s3 = client("s3", endpoint)
    template = (ROOT / "template.yaml").read_text()
    for name in set(re.findall(r"Binary: (\w+)", template)):
        if not (binaries / name).exists():
            sys.exit(f"{binaries / name} does not exist: make run-aws and make lambda-watch build it")
        s3.put_object(Bucket=CODE, Key=f"{name}.zip", Body=bootstrap(binaries / name))
    code = r"(BuildProperties: \{ Binary: (\w+) \}\n)(    Properties:\n)?"
    template = re.sub(code, r"\1    Properties:\n      CodeUri: s3://code/\2.zip\n", template)
    template = template.replace("    CodeUri: functions\n", "")
    template = with_settings(template, settings)
    pathlib.Path(folder, "template.yaml").write_text(template)
    client("cloudformation", endpoint).create_stack(
        StackName=STACK,
        TemplateBody=template,
        Capabilities=CAPABILITIES,
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
    )


def without(template, resources):
    """Returns a template of `sam build` without these resources."""
    names = "|".join(resources)
    return re.sub(rf"(?m)^  ({names}):\n(    .*\n)+", "", template)


def deploy_built(endpoint, built, settings, parameters):
    """Deploys the output of `sam build` with `sam deploy`."""
    # In the folders of the built templates, because their paths are relative.
    for nested in built.glob("*/template.yaml"):
        nested.with_name("emulated.yaml").write_text(without(nested.read_text(), UNSUPPORTED))
    template = built / "emulated.yaml"
    text = (built / "template.yaml").read_text().replace("/template.yaml", "/emulated.yaml")
    template.write_text(with_settings(text, settings))
    sam = ROOT / ".tools/lambda/bin/sam"
    command = [sam, "deploy", "--template-file", template, "--stack-name", STACK, "--s3-bucket", CODE]
    command += ["--region", REGION, "--no-confirm-changeset", "--capabilities", *CAPABILITIES]
    command += ["--parameter-overrides", *(f"{key}={value}" for key, value in parameters.items())]
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_ENDPOINT_URL": endpoint}
    done = subprocess.run(
        command, env={**os.environ, **keys, "SAM_CLI_TELEMETRY": "0"}, cwd=built, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"sam deploy failed:\n{done.stdout}\n{done.stderr}")


def deployed(endpoint):
    """Waits until the stack is deployed with every route of the template. Returns its outputs."""
    cloudformation = client("cloudformation", endpoint)
    while True:
        stack = cloudformation.describe_stacks(StackName=STACK)["Stacks"][0]
        if stack["StackStatus"] == "CREATE_COMPLETE":
            break
        if not stack["StackStatus"].endswith("IN_PROGRESS"):
            sys.exit(f"deployment failed: {stack['StackStatus']} {stack.get('StackStatusReason')}")
        time.sleep(0.05)  # polling interval
    gateway = client("apigatewayv2", endpoint)
    apis = gateway.get_apis()["Items"]
    routes = [route for api in apis for route in gateway.get_routes(ApiId=api["ApiId"])["Items"]]
    expected = (ROOT / "template.yaml").read_text().count("AWS::ApiGatewayV2::Route")
    if len(routes) != expected:
        sys.exit(f"{len(routes)} of the {expected} routes in the template were deployed")
    # Parameters of a stack are texts. AWS converts this one to a number, and the emulator does not.
    functions = client("lambda", endpoint)
    for mapping in functions.list_event_source_mappings()["EventSourceMappings"]:
        if scaling := mapping.get("ScalingConfig"):
            scaling = {"MaximumConcurrency": int(scaling["MaximumConcurrency"])}
            functions.update_event_source_mapping(UUID=mapping["UUID"], ScalingConfig=scaling)
    return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}


class Gateway(http.server.BaseHTTPRequestHandler):
    """Reverse proxy that replaces a custom domain on AWS: sets the Host header, by which the emulator tells APIs apart
    and which BitTorrent clients cannot set."""

    protocol_version = "HTTP/1.1"

    def forward(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
        headers["Host"] = self.server.api_host
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=60)
        upstream.request(self.command, self.path, body or None, headers)
        answer = upstream.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "content-length", "date", "server"):
                self.send_header(name, value)
        length = answer.getheader("content-length") if self.command == "HEAD" else None
        self.send_header("content-length", length or str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        upstream.close()

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = forward

    def log_message(self, *_):
        pass


def environment(endpoint, settings, parameters, known, outputs):
    """Returns the environment that the template gives its functions, for the seeder and `cargo lambda watch`."""
    names = ["RequestsTable", "TorrentsTable", "ContentsTable", "GuardsTable", "SwarmTable"]
    names += ["Bucket", "FetchQueue", "PackageQueue", "SeedQueue"]
    return {
        **os.environ,
        **settings,
        **{"AWS__" + re.sub("(?<=[a-z])(?=[A-Z])", "_", name).upper(): outputs[name] for name in names},
        "AWS__METRICS_NAMESPACE": STACK if parameters.get("AlarmEmail") else "",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "PUBLIC_URL": parameters["PublicUrl"],
        "TORRENT__WEBSEED_URL": parameters["WebseedUrl"],
        "SECURITY__BEARER_TOKENS": known["bearer_tokens"],
        "TRACKER__SECRET": known["tracker_secret"],
    }


def start_watch(port, variables):
    command = ["cargo", "lambda", "watch", "-p", "proxytorrent-functions", "--invoke-address", "127.0.0.1", "--invoke-port", str(port)]
    return subprocess.Popen(command, env=variables, cwd=ROOT, process_group=0)


def start_seeder(command, number, variables, webseed, folder):
    """Starts a seeder with a folder of its own. Returns its process, and how to reach it."""
    folder = pathlib.Path(folder, f"seeder-{number}")
    folder.mkdir()
    addresses = {name: f"127.0.0.1:{free_port()}" for name in ("listen", "http")}
    # A load balancer would spread the calls over the webseeds of all seeders.
    if number == 0:
        addresses["webseed"] = webseed
    environment = {**variables, **{f"SEEDER__{name.upper()}": address for name, address in addresses.items()}}
    log = folder / "seeder.log"
    seeder = subprocess.Popen(
        command,
        env=environment,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=open(log, "w"),
        text=True,
    )
    if not seeder.stdout.readline():
        sys.exit("the seeder did not start: " + log.read_text())
    metrics = folder / "metrics.log"

    def copy_metrics():
        with open(metrics, "w", buffering=1) as file:
            file.writelines(seeder.stdout)

    metrics.touch()
    threading.Thread(target=copy_metrics, daemon=True).start()
    return seeder, {"pid": seeder.pid, "log": str(log), "metrics": str(metrics), **addresses}


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--binaries", type=pathlib.Path, required=True)
    arguments.add_argument("--built", type=pathlib.Path)
    arguments.add_argument("--port", type=int, default=8000)
    arguments.add_argument("--seeders", type=int, default=1)
    arguments.add_argument("--seeder-wrapper")
    arguments.add_argument("--parameter", action="append", default=[], metavar="NAME=VALUE")
    arguments.add_argument("--watch", action="store_true")
    arguments.add_argument("--setting", action="append", default=[], metavar="NAME=VALUE")
    arguments = arguments.parse_args()
    settings = {**SETTINGS, **dict(setting.split("=", 1) for setting in arguments.setting)}
    binaries = arguments.binaries.resolve()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    processes = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            emulator, endpoint = start_emulator(folder)
            processes.append(emulator)
            gateway = http.server.ThreadingHTTPServer(("127.0.0.1", 0 if arguments.watch else arguments.port), Gateway)
            url = f"http://127.0.0.1:{arguments.port if arguments.watch else gateway.server_port}"
            webseed = f"127.0.0.1:{free_port()}"
            parameters = {"PublicUrl": url, "Secret": STACK, "WebseedUrl": f"http://{webseed}"}
            parameters |= dict(parameter.split("=", 1) for parameter in arguments.parameter)
            known = {
                "bearer_tokens": f"you:{TOKEN}",
                "hmac_keys": "",
                "tracker_secret": secrets.token_hex(32),
                "proxy_urls": "",
                "webhook_secret": "",
                "notify_url": "",
                "torrent_salt": secrets.token_hex(32),
            }
            client("secretsmanager", endpoint).create_secret(Name=STACK, SecretString=json.dumps(known))
            client("s3", endpoint).create_bucket(Bucket=CODE)
            if arguments.built:
                deploy_built(endpoint, arguments.built.resolve(), settings, parameters)
            else:
                deploy_binaries(endpoint, binaries, settings, parameters, folder)
            outputs = deployed(endpoint)
            gateway.upstream = endpoint.removeprefix("http://")
            gateway.api_host = outputs["ApiUrl"].removeprefix("http://")
            threading.Thread(target=gateway.serve_forever, daemon=True).start()
            variables = environment(endpoint, settings, parameters, known, outputs)
            command = [arguments.seeder_wrapper] if arguments.seeder_wrapper else []
            command.append(binaries / "seeder-container")
            seeders = [start_seeder(command, number, variables, webseed, folder) for number in range(arguments.seeders)]
            processes += [seeder for seeder, _ in seeders]
            seeders = [addresses for _, addresses in seeders]
            if arguments.watch:
                processes.append(start_watch(arguments.port, variables))
            print(f"ProxyTorrent on an emulated AWS serves {url} and seeds on {', '.join(seeder['listen'] for seeder in seeders)}.", flush=True)
            print(f"Call it with the bearer token {TOKEN}: CLIENT__SERVER={url} CLIENT__TOKEN={TOKEN}", flush=True)
            print(json.dumps({**outputs, "Endpoint": endpoint, "Folder": folder, "Seeders": seeders}), flush=True)
            while not stop.wait(0.2):
                ended = {process.pid for process in processes if process.poll() is not None}
                ended_seeders = ended & {seeder["pid"] for seeder in seeders}
                if len(ended_seeders) == len(seeders) or ended != ended_seeders:
                    logs = [pathlib.Path(folder, "emulator.log"), *(pathlib.Path(seeder["log"]) for seeder in seeders)]
                    logs = "".join(f"\n{log.name}:\n{log.read_text()[-10_000:]}" for log in logs)
                    sys.exit(f"a process has exited: {[process.args[0] for process in processes if process.pid in ended]}{logs}")
        finally:
            for process in reversed(processes):
                # For `cargo lambda watch`, the whole process group, because it starts further processes.
                end = os.killpg if process.args[0] == "cargo" else os.kill
                if process.poll() is None:
                    end(process.pid, signal.SIGTERM)
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()


main()
