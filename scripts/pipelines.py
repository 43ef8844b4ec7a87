#!/usr/bin/python3
"""Reads the pipelines of docs/integrations: checks what no linter of Debian checks, and writes out the shell that they run.

    pipelines.py tekton FOLDER PARAMETERS WORKSPACES   a Task's steps, with these values (JSON) put in as Tekton would
    pipelines.py gitlab FILE JOB FOLDER                a job's variables and script
    pipelines.py jenkins FILE FOLDER                   the commands of a Jenkinsfile

Each script is written as FOLDER/<number>-<name>, to be run in this order.
"""
import json
import os
import re
import sys

import yaml

HERE = os.path.join(os.path.dirname(__file__), "..", "docs", "integrations")


def fail(text):
    sys.exit(f"scripts/pipelines.py: {text}")


class Strict(yaml.SafeLoader):
    """Refuses a key that is given twice."""


def unique(loader, node, deep=False):
    keys = [loader.construct_object(key, deep=deep) for key, _ in node.value]
    if len(keys) != len(set(keys)):
        fail(f"a key twice at {node.start_mark}")
    return loader.construct_mapping(node, deep)


Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, unique)


def load(name):
    with open(os.path.join(HERE, name), encoding="utf-8") as file:
        return yaml.load(file, Strict)


# --- Tekton (tekton.dev/v1): the members that are used here, by the reference of Task, Pipeline and PipelineRun.

PARAM = {"name": str, "type": str, "description": str, "default": object}
WORKSPACE = {"name": str, "description": str, "optional": bool, "readOnly": bool, "mountPath": str}
RESULT = {"name": str, "description": str, "type": str, "value": object}
VALUE = {"name": str, "value": object}
STEP = {
    "name": str, "image": str, "args": [str], "script": str, "env": [VALUE], "workingDir": str, "timeout": str,
    "securityContext": dict,
}
TASK = {
    "description": str, "params": [PARAM], "workspaces": [WORKSPACE], "results": [RESULT],
    "stepTemplate": {"env": [VALUE], "securityContext": dict}, "steps": [STEP],
}
PIPELINE_TASK = {
    "name": str, "retries": int, "timeout": str, "runAfter": [str], "taskRef": {"kind": str, "name": str},
    "params": [VALUE], "workspaces": [{"name": str, "workspace": str, "subPath": str}],
}
PIPELINE = {
    "description": str, "params": [PARAM], "workspaces": [WORKSPACE], "results": [RESULT], "tasks": [PIPELINE_TASK],
}
BINDING = {
    "name": str, "subPath": str, "configMap": {"name": str}, "secret": {"secretName": str},
    "persistentVolumeClaim": {"claimName": str},
}
TEMPLATE = {
    "serviceAccountName": str,
    "podTemplate": {"securityContext": {"runAsUser": int, "runAsGroup": int, "fsGroup": int}},
}
RUN = {"pipelineRef": {"name": str}, "taskRunTemplate": TEMPLATE, "params": [VALUE], "workspaces": [BINDING]}
METADATA = {"name": str, "generateName": str, "labels": dict}


def fits(value, shape, where):
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            fail(f"{where}: expected a mapping")
        for key, member in value.items():
            if key not in shape:
                fail(f"{where}: there is no `{key}`")
            fits(member, shape[key], f"{where}.{key}")
    elif isinstance(shape, list):
        if not isinstance(value, list):
            fail(f"{where}: expected a list")
        for number, member in enumerate(value):
            fits(member, shape[0], f"{where}[{number}]")
    elif not isinstance(value, shape):
        fail(f"{where}: expected {shape.__name__}, found {type(value).__name__}")


def document(name, kind, shape):
    value = load(name)
    fits(value, {"apiVersion": str, "kind": str, "metadata": METADATA, "spec": shape}, name)
    if (value["apiVersion"], value["kind"]) != ("tekton.dev/v1", kind):
        fail(f"{name}: expected a {kind} of tekton.dev/v1")
    return value["metadata"].get("name"), value["spec"]


def names(values):
    return [value["name"] for value in values]


def same(first, second, what):
    if sorted(first) != sorted(second):
        fail(f"{what}: {sorted(first)} and {sorted(second)} differ")


VARIABLE = re.compile(r"\$\(([^)]*)\)")


def tekton(folder, parameters, workspaces):
    task, spec = document("tekton/task.yaml", "Task", TASK)
    pipeline, outer = document("tekton/pipeline.yaml", "Pipeline", PIPELINE)
    _, run = document("tekton/run.yaml", "PipelineRun", RUN)
    (only,) = outer["tasks"]
    if (only["taskRef"]["name"], run["pipelineRef"]["name"]) != (task, pipeline):
        fail("tekton: what is referred to has another name")
    optional = [p["name"] for p in spec["params"] if "default" in p]
    same(names(only["params"]) + ["image"], names(spec["params"]), "parameters of the task")
    for what in ("params", "workspaces"):
        same(names(run[what]), names(outer[what]), f"{what} of the run")
    same([w["workspace"] for w in only["workspaces"]], names(outer["workspaces"]), "workspaces of the pipeline")
    same(names(only["workspaces"]), names(spec["workspaces"]), "workspaces of the task")
    claims = {w["persistentVolumeClaim"]["claimName"] for w in run["workspaces"] if "persistentVolumeClaim" in w}
    if len(claims) > 1:
        fail(f"tekton: a default installation refuses a task with several volumes: {sorted(claims)}")
    places = [w.get("subPath") for w in run["workspaces"] if "persistentVolumeClaim" in w]
    if len(places) != len(set(places)):
        fail("tekton: two workspaces in one place")
    same(names(outer["results"]), names(spec["results"]), "results")

    known = {f"workspaces.{w['name']}.path": workspaces.get(w["name"], "") for w in spec["workspaces"]}
    results = os.path.join(folder, "results")
    os.makedirs(results)
    known.update({f"results.{r['name']}.path": os.path.join(results, r["name"]) for r in spec["results"]})
    for parameter in spec["params"]:
        value = parameters.get(parameter["name"], parameter.get("default"))
        if value is None or parameter["name"] not in parameters and parameter["name"] not in optional:
            fail(f"tekton: the parameter {parameter['name']} is missing")
        known[f"params.{parameter['name']}" + ("[*]" if isinstance(value, list) else "")] = value

    def put_in(text):
        def one(match):
            if match[1] not in known:
                fail(f"tekton: nothing is called $({match[1]})")
            return known[match[1]]
        return VARIABLE.sub(one, text)

    for number, step in enumerate(spec["steps"]):
        if VARIABLE.search(re.sub(r"\$\((?=sed )", "", step["script"])):
            fail(f"tekton: step {step['name']} has a parameter in its script; give it as a variable")
        arguments = []
        for argument in step.get("args", []):
            whole = VARIABLE.fullmatch(argument)
            arguments += known[whole[1]] if whole and whole[1].endswith("[*]") else [put_in(argument)]
        environment = [(v["name"], put_in(v["value"])) for v in spec["stepTemplate"]["env"] + step.get("env", [])]
        write(folder, number, step["name"], environment, step["script"], arguments)


# --- The others.

def gitlab(name, job, folder):
    pipeline = load(name)
    script = pipeline[job]["script"]
    variables = {**pipeline.get("variables", {}), **pipeline[job].get("variables", {})}
    # As GitLab does: what the runner gives can be used in them, and what is set there already wins.
    environment = [(key, os.environ.get(key, os.path.expandvars(value))) for key, value in variables.items()]
    write(folder, 0, job, environment, "#!/bin/bash\nset -eo pipefail\n" + "\n".join(script) + "\n", [])


def jenkins(name, folder):
    with open(os.path.join(HERE, name), encoding="utf-8") as file:
        text = file.read()
    if re.search(r"^\s*sh\s*[\"(]", text, re.MULTILINE):
        fail(f"{name}: a command in double quotes is Groovy's to fill in, parameters and all")
    commands = re.findall(r"^\s*sh '([^']*)'$", text, re.MULTILINE)
    if not commands:
        fail(f"{name}: no command")
    environment = re.findall(r"^\s*(SEALIFT_[A-Z_]+) = '([^']*)'$", text, re.MULTILINE)
    environment = [(key, os.environ.get(key, value)) for key, value in environment]
    for number, command in enumerate(commands):
        write(folder, number, "sh", environment, f"#!/bin/sh\nset -xe\n{command}\n", [])


def write(folder, number, name, environment, script, arguments):
    """A script, and beside it what runs it."""
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, f"{number}-{name}")
    with open(path + ".script", "w", encoding="utf-8") as file:
        file.write(script)
    with open(path, "w", encoding="utf-8") as file:
        file.write(
            "#!/usr/bin/python3\nimport os\n"
            f"os.environ.update({dict(environment)!r})\n"
            f"os.execv({path + '.script'!r}, {[path + '.script'] + arguments!r})\n"
        )
    for made in (path, path + ".script"):
        os.chmod(made, 0o755)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["tekton", folder, parameters, workspaces]:
            tekton(folder, json.loads(parameters), json.loads(workspaces))
        case ["gitlab", name, job, folder]:
            gitlab(name, job, folder)
        case ["jenkins", name, folder]:
            jenkins(name, folder)
        case _:
            fail("unknown arguments")
