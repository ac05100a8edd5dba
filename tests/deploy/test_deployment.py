"""What is deployed: linted as it stands, and every command, flag, path and port in it held against the program and the other files.

No image was ever built here, and no manifest ever applied: this machine has neither Docker nor Kubernetes.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from fed_em.model_file import load_model
from fed_em_client.configuration import read_tenant_configuration
from fed_em_protocols.party import create_shard_keys
from fed_em_server.configuration import read_server_configuration
from fed_em_server.operate.operate_file import read_operate_file
from fed_em_simulations.demo_folder import write_demo_folder
from tests.conftest import REPOSITORY
from tests.deploy.command_lines import check_command_line

DEPLOY = REPOSITORY / "deploy"
DOCKERFILE = DEPLOY / "docker" / "Dockerfile"
COMPOSE = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
SESSIONS, METRICS, SHARDS = 8443, 9464, 9443


def beside_python(name: str) -> str:
    """A program of the environment that the tests run in."""
    found = shutil.which(name, path=sysconfig.get_path("scripts"))
    assert found, f"{name} is among the developers' dependencies"
    return found


def resources() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in MANIFESTS:
        for document in yaml.safe_load_all(path.read_text()):
            yield f"{path.name} {document['kind']}/{document['metadata']['name']}", document


RESOURCES = dict(resources())


def pod_of(document: dict[str, Any]) -> dict[str, Any] | None:
    spec = document.get("spec", {})
    spec = spec.get("jobTemplate", {}).get("spec", spec)
    return spec.get("template")


PODS = {where: pod for where, document in RESOURCES.items() if (pod := pod_of(document)) is not None}


def instructions(kind: str) -> list[str]:
    text = re.sub(r"\\\n\s*", " ", DOCKERFILE.read_text())
    return [
        line.removeprefix(kind).strip() for line in map(str.strip, text.splitlines()) if line.startswith(f"{kind} ")
    ]


class TestLinters:
    def test_hadolint(self) -> None:
        subprocess.run([beside_python("hadolint"), DOCKERFILE], check=True)

    def test_yamllint(self) -> None:
        ours = [DEPLOY / "compose", DEPLOY / "kubernetes", REPOSITORY / ".yamllint.yaml"]
        subprocess.run([beside_python("yamllint"), "--strict", "-c", REPOSITORY / ".yamllint.yaml", *ours], check=True)

    @pytest.mark.slow
    def test_promtool(self, program: Callable[[str], Path]) -> None:
        """Its rules are generated elsewhere, and checked there."""
        configuration = DEPLOY / "compose" / "prometheus.yml"
        subprocess.run([program("promtool"), "check", "config", "--syntax-only", configuration], check=True)

    @pytest.mark.slow
    @pytest.mark.parametrize("where", RESOURCES)
    def test_manifests_are_valid(self, where: str) -> None:
        kubernetes_validate.validate(RESOURCES[where], kubernetes_validate.latest_version(), strict=True)


class TestDockerfile:
    def test_what_is_copied_is_there_and_let_through(self) -> None:
        ignored = (REPOSITORY / ".dockerignore").read_text().splitlines()
        admitted = [line[1:].rstrip("*").rstrip("/") for line in ignored if line.startswith("!")]
        copied = [word for line in instructions("COPY") if "--from" not in line for word in line.split()[:-1]]
        assert {"pyproject.toml", "fed_em/", "client/"} <= set(copied)
        for source in copied:
            assert (REPOSITORY / source).exists(), source
            assert any(each.startswith(source.rstrip("/")) for each in admitted), f"{source} is in .dockerignore"

    def test_every_package_of_the_wheel_is_copied(self) -> None:
        wheel = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
        copied = {word.rstrip("/") for line in instructions("COPY") for word in line.split()}
        assert {package.split("/")[0] for package in wheel["packages"]} <= copied

    def test_it_runs_as_nobody_in_particular_and_names_no_index(self) -> None:
        assert instructions("USER") == ["10001:10001"]
        text = DOCKERFILE.read_text()
        assert not [host for host in re.findall(r"https?://([^/:'\"]+)", text) if host != "127.0.0.1"]
        assert "index-url" not in text and "trusted-host" not in text

    def test_the_base_is_one_release(self) -> None:
        (image,) = [line for line in instructions("ARG") if line.startswith("PYTHON_IMAGE")]
        assert re.fullmatch(r"PYTHON_IMAGE=python:3\.1[123]\.\d+-slim-\w+", image)

    def test_the_lock_has_what_serving_and_private_sessions_need(self) -> None:
        """What `fed-em serve`, its reflection and [privacy] import, by the extras of the package."""
        extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        locked = {line.partition("==")[0] for line in (REPOSITORY / "requirements/users.lock").read_text().splitlines()}
        for extra in ("serving", "privacy", "plots"):
            assert {re.split(r"[<>=\[;]", each)[0] for each in extras[extra]} <= locked, extra

    def test_all_dependencies_of_the_lock_have_hashes(self) -> None:
        (lock,) = [line.removeprefix("LOCK=") for line in instructions("ARG") if line.startswith("LOCK")]
        entries = re.split(r"\n(?=\S)", (REPOSITORY / lock).read_text().strip())
        entries = [entry for entry in entries if not entry.startswith("#")]
        assert len(entries) > 30 and all("--hash=sha256:" in entry for entry in entries)

    def test_commands_and_ports(self) -> None:
        for line in instructions("CMD"):
            check_command_line(json.loads(line), "Dockerfile")
        assert instructions("EXPOSE") == [f"{SESSIONS} {METRICS}", f"{SHARDS} {METRICS}"]
        probes = instructions("HEALTHCHECK")
        assert f"127.0.0.1', {SESSIONS}" in probes[0] and f"127.0.0.1:{METRICS}/metrics" in probes[1]


class TestCompose:
    def test_commands_are_those_of_the_program(self) -> None:
        ours = {name: each for name, each in COMPOSE["services"].items() if each["image"].startswith("fed-em-")}
        assert set(ours) == {"server", "ash", "birch", "cedar"}
        for name, service in ours.items():
            check_command_line(service["command"], f"compose.yaml, {name}")
            assert service["build"]["target"] in ("server", "tenant")
            assert (DEPLOY / "compose" / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
            assert re.search(rf"^FROM runtime AS {service['build']['target']}$", DOCKERFILE.read_text(), re.M)

    def test_services_are_hardened_and_depend_on_each_other(self) -> None:
        for name, service in COMPOSE["services"].items():
            assert service["read_only"] and service["cap_drop"] == ["ALL"], name
            assert set(service.get("depends_on", [])) <= set(COMPOSE["services"])
            for port in service.get("ports", []):
                assert port.startswith("127.0.0.1:"), f"{name} is open to others than this machine"

    def test_what_is_mounted_is_there(self) -> None:
        generated = ("./federation/", "../observability/")
        for service in COMPOSE["services"].values():
            for mount in service["volumes"]:
                source = mount.split(":")[0]
                if source.startswith("./") and not source.startswith(generated):
                    assert (DEPLOY / "compose" / source).exists(), source
                elif not source.startswith((".", "/")):
                    assert source in COMPOSE["volumes"]

    def test_prometheus_and_grafana_find_what_they_read(self) -> None:
        prometheus = yaml.safe_load((DEPLOY / "compose" / "prometheus.yml").read_text())
        targets = [t for job in prometheus["scrape_configs"] for each in job["static_configs"] for t in each["targets"]]
        assert {target.split(":")[0] for target in targets} == {"server", "ash", "birch", "cedar"}
        assert {target.split(":")[1] for target in targets} == {str(METRICS)}
        source = yaml.safe_load((DEPLOY / "compose/grafana/datasources/prometheus.yaml").read_text())["datasources"][0]
        assert source["url"] == "http://prometheus:9090"
        mounts = dict(mount.split(":")[:2] for mount in COMPOSE["services"]["grafana"]["volumes"])
        provider = yaml.safe_load((DEPLOY / "compose/grafana/dashboards/fed-em.yaml").read_text())["providers"][0]
        assert provider["options"]["path"] in mounts.values()
        scraped = dict(mount.split(":")[:2] for mount in COMPOSE["services"]["prometheus"]["volumes"])
        assert scraped["../observability/rules.yml"] == f"/etc/prometheus/{prometheus['rule_files'][0]}"


class TestKubernetes:
    @pytest.mark.parametrize("where", PODS)
    def test_pods_are_hardened(self, where: str) -> None:
        spec = PODS[where]["spec"]
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] == 10001
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        for container in spec["containers"]:
            own = container["securityContext"]
            assert own["readOnlyRootFilesystem"] and not own["allowPrivilegeEscalation"]
            assert own["capabilities"] == {"drop": ["ALL"]} and container["resources"]["limits"]["memory"]

    @pytest.mark.parametrize("where", PODS)
    def test_commands_are_those_of_the_program_and_their_files_are_mounted(self, where: str) -> None:
        for container in PODS[where]["spec"]["containers"]:
            check_command_line(container["args"], where)
            mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
            assert set(mounts.values()) == {volume["name"] for volume in volumes(where)}
            values = [word.rpartition("=")[2] for word in container["args"]]
            for word in values:
                if word.startswith("/"):
                    assert any(word == path or word.startswith(f"{path}/") for path in mounts), f"{word} is not mounted"
            ports = {str(port["containerPort"]) for port in container.get("ports", [])}
            listening = {word.rpartition(":")[2] for word in values if word.startswith("0.0.0.0:")}
            assert listening <= ports

    def test_services_lead_to_ports_of_pods(self) -> None:
        for where, document in RESOURCES.items():
            if document["kind"] == "Service":
                named = ports_of(document["spec"]["selector"])
                assert {
                    port["targetPort"]: port["port"] for port in document["spec"]["ports"]
                }.items() <= named.items(), where

    def test_policies_let_in_what_pods_listen_for_and_nothing_else(self) -> None:
        for where, document in RESOURCES.items():
            if document["kind"] == "NetworkPolicy":
                inside = {port["port"] for rule in document["spec"]["ingress"] for port in rule.get("ports", [])}
                assert inside == set(ports_of(document["spec"]["podSelector"]["matchLabels"]).values()), where

    def test_every_pod_has_a_policy(self) -> None:
        selected = [
            d["spec"]["podSelector"]["matchLabels"]["app"] for d in RESOURCES.values() if d["kind"] == "NetworkPolicy"
        ]
        assert {pod["metadata"]["labels"]["app"] for pod in PODS.values()} == set(selected)

    def test_the_configuration_is_what_the_program_reads(self, tmp_path: Path) -> None:
        readers: dict[str, Callable[[Path], object]] = {
            "session": read_server_configuration,
            "tenant": read_tenant_configuration,
            "operate": read_operate_file,
        }
        for name, read in readers.items():
            (document,) = [d for d in RESOURCES.values() if d["kind"] == "ConfigMap" and d["metadata"]["name"] == name]
            path = tmp_path / f"{name}.toml"
            path.write_text(document["data"][path.name])
            read(path)
        operated = read_operate_file(tmp_path / "operate.toml")
        session = read_server_configuration(tmp_path / "session.toml")
        ports = ports_of({"role": "operate"})
        assert operated.metrics.listen == f"0.0.0.0:{ports['operate']}"
        assert session.metrics.listen == f"0.0.0.0:{ports['metrics']}" == f"0.0.0.0:{METRICS}"
        mounts = {
            mount["mountPath"]: mount["name"]
            for mount in PODS["operate.yaml Deployment/operate"]["spec"]["containers"][0]["volumeMounts"]
        }
        assert mounts[str(operated.session.parent)] == "session" and mounts[str(operated.registry)] == "registry"

    def test_probes_ask_for_what_is_there(self) -> None:
        """A server of models is asked over HTTP with TLS: `/healthz` is tested with the faces, metrics with their endpoint."""
        for where, pod in PODS.items():
            for container in pod["spec"]["containers"]:
                ports = {port["name"] for port in container.get("ports", [])}
                for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
                    asked = container.get(kind, {})
                    target = asked.get("tcpSocket") or asked.get("httpGet") or {"port": None}
                    assert target["port"] in {None, *ports}, where
                    assert target.get("path", "/metrics") in ("/metrics", "/healthz"), where
                    with_tls = any(word.startswith("--tls-certificate") for word in container["args"])
                    assert target.get("path") != "/healthz" or (target.get("scheme") == "HTTPS") == with_tls, where

    def test_shards_are_as_many_as_the_tenant_waits_for_and_dial_where_it_listens(self, tmp_path: Path) -> None:
        path = tmp_path / "tenant.toml"
        path.write_text(RESOURCES["tenant.yaml ConfigMap/tenant"]["data"]["tenant.toml"])
        shards = read_tenant_configuration(path).shards
        job = RESOURCES["shards.yaml Job/shards"]["spec"]
        assert shards is not None and job["completionMode"] == "Indexed"
        assert job["completions"] == job["parallelism"] == shards.count
        host, port = job["template"]["spec"]["containers"][0]["args"][1].split(":")
        service = RESOURCES[f"tenant.yaml Service/{host}"]
        assert int(port) == service["spec"]["ports"][0]["port"] == SHARDS == int(shards.listen.rpartition(":")[2])
        mounted = {
            m["mountPath"] for m in PODS["tenant.yaml Deployment/tenant"]["spec"]["containers"][0]["volumeMounts"]
        }
        assert str(shards.keys) in mounted

    def test_images_are_those_that_compose_builds(self) -> None:
        built = {service["image"] for service in COMPOSE["services"].values() if "build" in service}
        assert {c["image"] for pod in PODS.values() for c in pod["spec"]["containers"]} == built


def volumes(where: str) -> list[dict[str, Any]]:
    claims = RESOURCES[where]["spec"].get("volumeClaimTemplates", [])
    return PODS[where]["spec"]["volumes"] + [{"name": claim["metadata"]["name"]} for claim in claims]


def ports_of(labels: dict[str, str]) -> dict[str, int]:
    """Ports by name of the pods with these labels."""
    found = {}
    for pod in PODS.values():
        if labels.items() <= pod["metadata"]["labels"].items():
            found |= {p["name"]: p["containerPort"] for c in pod["spec"]["containers"] for p in c.get("ports", [])}
    assert found or labels["app"] == "fed-em-shard"
    return found


@pytest.mark.slow
def test_what_the_build_context_lets_through_installs_and_runs(tmp_path: Path) -> None:
    """The substance of the Dockerfile's last `RUN`, with this environment's dependencies."""
    context = tmp_path / "context"
    rules = (REPOSITORY / ".dockerignore").read_text().splitlines()
    wanted = [line[1:] for line in rules if line.startswith("!")]
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        if any(fnmatch.fnmatch(name, pattern) for pattern in wanted):
            (context / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(REPOSITORY / name, context / name)
    (run,) = [line for line in instructions("RUN") if "--no-build-isolation" in line]
    words = run.replace("/opt/fed-em/bin/python", sys.executable).split()
    subprocess.run([*words, "--quiet", "--target", tmp_path / "installed"], cwd=context, check=True)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed"), "NUMBA_CACHE_DIR": str(tmp_path / "numba")}
    where = "import fed_em_client.shard_pod as m; print(m.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", where], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert found.stdout.startswith(str(tmp_path / "installed"))
    for probe in re.findall(r'"-c", "(.*?)"\]', DOCKERFILE.read_text()):
        compile(probe, "HEALTHCHECK", "exec")


@pytest.mark.slow
@pytest.mark.xdist_group("real time")
def test_the_services_of_compose_run_a_session_one_tenant_of_which_has_shards(tmp_path: Path) -> None:
    """Commands of compose.yaml and shards.yaml as processes of this machine, mounts and names of hosts put in their places."""
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as another:
        port, for_shards = taken.getsockname()[1], another.getsockname()[1]
    folder = tmp_path / "federation"
    write_demo_folder(folder, f"127.0.0.1:{port}", f"127.0.0.1:{port}", 3, str(tmp_path / "result"))
    shard_keys = tmp_path / "shard-keys"
    create_shard_keys(shard_keys, datetime.now(UTC))
    file = folder / "tenants" / "ash" / "tenant.toml"
    rows = file.with_name("rows.parquet").as_uri()
    table = f'[shards]\nlisten = "127.0.0.1:{for_shards}"\nkeys = "{shard_keys}"\ncount = 2\ndata = "{rows}"\n'
    file.write_text(file.read_text().replace('data = "rows.parquet"', table))

    commands: dict[str, list[str]] = {}
    for name, service in COMPOSE["services"].items():
        if service["image"].startswith("fed-em-"):
            source = next(mount.split(":")[0] for mount in service["volumes"] if mount.split(":")[1] == "/config")
            config = str(folder / source.removeprefix("./federation/"))
            # Processes of one machine cannot all have the same port.
            words = ["127.0.0.1:0" if word == f"0.0.0.0:{METRICS}" else word for word in service["command"]]
            commands[name] = [word.replace("/config", config) for word in words]
    (container,) = PODS["shards.yaml Job/shards"]["spec"]["containers"]
    places = {"tenant-shards:9443": f"127.0.0.1:{for_shards}", "/shard-keys": str(shard_keys)}
    commands |= {f"shard {index}": [places.get(word, word) for word in container["args"]] for index in range(2)}
    assert run_all(commands, tmp_path) == dict.fromkeys(commands, 0)
    assert load_model(tmp_path / "result" / "model").parameters["weights"].shape == (10,)
    assert "shard 1 is here" in (tmp_path / "ash.log").read_text()


def run_all(commands: dict[str, list[str]], folder: Path) -> dict[str, int]:
    """Exit statuses of all commands, run side by side; what they say is in files of their names."""
    processes = {}
    for name, words in commands.items():
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        environment["JOB_COMPLETION_INDEX"] = name.removeprefix("shard ") if name.startswith("shard") else "0"
        with (folder / f"{name}.log").open("wb") as log:
            command = [sys.executable, "-m", "fed_em_simulations.command_line", *words]
            processes[name] = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        return {name: process.wait(180) for name, process in processes.items()}
    finally:
        for process in processes.values():
            process.kill()
