//! packaging/kubernetes: whether its files agree with each other, and whether the configuration and the commands in them make a cluster. Pods are directories here, and Kubernetes
//! itself is in no test: what it would do (names, volumes, order) is done by hand, with the words of the files.

use super::manual::root;
use crate::support::http::Client;
use crate::support::process::{Process, Scratch, eventually, free_port};
use crate::support::sluice::BINARY;
use sluice::config::tree::{self, Tree, Value};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

fn file(name: &str) -> String {
    let path = root().join("packaging/kubernetes").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The documents of a file.
fn documents(name: &str) -> Vec<Tree> {
    file(name).split("\n---\n").map(|text| tree::parse_foreign(text).unwrap_or_else(|broken| panic!("{name}: {broken:?}"))).collect()
}

/// The document of this kind and name.
fn object(name: &str, kind: &str, of: &str) -> Tree {
    let found = documents(name).into_iter().find(|one| text(one, "kind") == kind && text(one, "metadata.name") == of);
    found.unwrap_or_else(|| panic!("{name} has no {kind} {of}"))
}

/// What stands under `a.b[1].c`.
#[track_caller]
fn at<'t>(tree: &'t Tree, path: &str) -> &'t Tree {
    path.split(['.', '[']).fold(tree, |tree, step| match (&tree.value, step.strip_suffix(']')) {
        (Value::List(items), Some(index)) => &items[index.parse::<usize>().unwrap()],
        (Value::Pairs(pairs), None) => {
            let is = |key: &Tree| matches!(&key.value, Value::Scalar(text) if text == step);
            &pairs.iter().find(|(key, _)| is(key)).unwrap_or_else(|| panic!("{path}: no {step}")).1
        }
        _ => panic!("{path}: {step} is nothing here"),
    })
}

#[track_caller]
fn text(tree: &Tree, path: &str) -> String {
    match &at(tree, path).value {
        Value::Scalar(text) => text.clone(),
        other => panic!("{path} is {other:?}"),
    }
}

#[track_caller]
fn list(tree: &Tree, path: &str) -> Vec<Tree> {
    match &at(tree, path).value {
        Value::List(items) => items.clone(),
        other => panic!("{path} is {other:?}"),
    }
}

fn texts(tree: &Tree, path: &str) -> Vec<String> {
    let word = |one: &Tree| match &one.value {
        Value::Scalar(text) => text.clone(),
        other => panic!("{path} holds {other:?}"),
    };
    list(tree, path).iter().map(word).collect()
}

const LABEL: &str = "app.kubernetes.io/name";

/// The value of the one label that selects pods; its name has dots in it.
fn label(tree: &Tree, path: &str) -> String {
    let Value::Pairs(pairs) = &at(tree, path).value else { panic!("{path} is no section") };
    let [(key, value)] = pairs.as_slice() else { panic!("{path} has other labels, too") };
    assert!(matches!(&key.value, Value::Scalar(name) if name == LABEL), "{path}");
    match &value.value {
        Value::Scalar(text) => text.clone(),
        other => panic!("{path} is {other:?}"),
    }
}

#[test]
fn names_ports_and_selectors_of_the_manifests_agree() {
    let set = object("statefulset.yaml", "StatefulSet", "sluice");
    let pods = label(&set, "spec.template.metadata.labels");
    assert_eq!(label(&set, "spec.selector.matchLabels"), pods);
    assert_eq!(label(&object("services.yaml", "PodDisruptionBudget", "sluice"), "spec.selector.matchLabels"), pods);
    assert_eq!(label(&object("services.yaml", "NetworkPolicy", "sluice"), "spec.podSelector.matchLabels"), pods);
    assert_eq!(text(&object("services.yaml", "PodDisruptionBudget", "sluice"), "spec.maxUnavailable"), "1");

    let ports: Vec<(String, String)> =
        list(&set, "spec.template.spec.containers[0].ports").iter().map(|port| (text(port, "name"), text(port, "containerPort"))).collect();
    for service in ["sluice", "sluice-peers"] {
        let service = object("services.yaml", "Service", service);
        assert_eq!(label(&service, "spec.selector"), pods);
        for port in list(&service, "spec.ports") {
            let pair = (text(&port, "targetPort"), text(&port, "port"));
            assert!(ports.contains(&pair), "{pair:?} is no port of a container");
        }
    }
    let headless = object("services.yaml", "Service", "sluice-peers");
    assert_eq!((text(&headless, "spec.clusterIP"), text(&headless, "spec.publishNotReadyAddresses")), ("None".into(), "true".into()));
    assert_eq!(text(&set, "spec.serviceName"), text(&headless, "metadata.name"));

    // Nodes are pods: `sluice-0` at `sluice-0` of the headless Service, at the port between nodes.
    let config = tree::parse(&configuration()).unwrap();
    let expected: Vec<String> =
        (0..text(&set, "spec.replicas").parse().unwrap()).map(|pod: u8| format!("sluice-{pod}/sluice-{pod}.sluice-peers:9202")).collect();
    assert_eq!(texts(&config, "cluster.nodes"), expected);
    let mounts: Vec<String> =
        list(&set, "spec.template.spec.containers[0].volumeMounts").iter().map(|mount| text(mount, "mountPath")).collect();
    assert!(mounts.contains(&text(&config, "data_dir")), "{mounts:?}");

    let resources = texts(&documents("kustomization.yaml")[0], "resources");
    assert!(resources.iter().all(|name| !documents(name).is_empty()), "{resources:?}");
    let operator = object("prometheus.yaml", "Prometheus", "k8s");
    assert!(text(&operator, "spec.remoteWrite[0].url").starts_with("http://sluice.monitoring.svc:9201/"));
    let pair = (text(&operator, "spec.prometheusExternalLabelName"), text(&operator, "spec.replicaExternalLabelName"));
    assert_eq!(pair, ("prometheus".into(), "prometheus_replica".into()), "what groups.labels has without being told");
}

/// The configuration that the ConfigMap holds.
fn configuration() -> String {
    let map = object("config.yaml", "ConfigMap", "sluice");
    let Value::Pairs(pairs) = &at(&map, "data").value else { panic!("data is no section") };
    match &pairs[0].1.value {
        Value::Scalar(text) => text.clone(),
        other => panic!("{other:?}"),
    }
}

/// What would be a pod.
struct Pod {
    name: String,
    config: PathBuf,
    data: PathBuf,
    address: SocketAddr,
}

impl Pod {
    /// Runs a command of the files as it would run in the pod: `sluice` is the binary, paths are the pod's own.
    fn command(&self, words: &[String], bundle: &str) -> Command {
        let word = |word: &String| match word.as_str() {
            "/etc/sluice/sluice.yaml" => self.config.display().to_string(),
            "/run/join/sluice-join.bundle" => bundle.to_owned(),
            "$(POD_NAME)" => self.name.clone(),
            other => other.to_owned(),
        };
        let mut command = Command::new(BINARY);
        command.args(words.iter().map(word)).env("SLUICE_SERVER", format!("http://{}", self.address)).env("SLUICE_DATA_DIR", &self.data);
        command
    }

    fn run(&self, words: &[String], bundle: &str) -> Result<String, String> {
        let output = self.command(words, bundle).output().expect("the binary");
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if output.status.success() { Ok(said) } else { Err(said) }
    }
}

/// Three pods with the configuration of the ConfigMap, in which addresses are those of this machine.
fn pods(scratch: &Scratch) -> Vec<Pod> {
    let peers: Vec<u16> = (0..3).map(|_| free_port()).collect();
    let one = |number: usize| {
        let name = format!("sluice-{number}");
        let dir = scratch.sub(&name);
        let (config, data, address) = (dir.join("sluice.yaml"), dir.join("data"), SocketAddr::from(([127, 0, 0, 1], free_port())));
        let mut written = configuration();
        for (pod, port) in peers.iter().enumerate() {
            written = written.replace(&format!("sluice-{pod}.sluice-peers:9202"), &format!("127.0.0.1:{port}"));
        }
        let own = format!("cluster:\n  listen: 127.0.0.1:{}\n  slow_sync: 30s", peers[number]);
        for (of_pod, here) in [
            ("\":9201\"", address.to_string()),
            ("/var/lib/sluice", data.display().to_string()),
            ("cluster:", own),
            ("kafka-bootstrap.kafka:9092", "127.0.0.1:9".to_owned()),
        ] {
            assert!(written.contains(of_pod), "the configuration has no {of_pod}");
            written = written.replacen(of_pod, &here, 1);
        }
        std::fs::write(&config, format!("own_metrics: false\n{written}")).expect("configuration");
        Pod { name, config, data, address }
    };
    (0..3).map(one).collect()
}

/// The words of the README's line that begins so, behind `sluice`.
fn told(line: &str) -> Vec<String> {
    let readme = file("README.md");
    let found = readme.lines().map(str::trim).find(|one| one.contains(line)).unwrap_or_else(|| panic!("README.md has no `{line}`"));
    let from = found.rfind("sluice cluster").expect("a command of sluice");
    found[from..].split_whitespace().skip(1).map(str::to_owned).collect()
}

#[test]
fn the_commands_in_the_manifests_make_a_cluster() {
    let scratch = Scratch::new("kubernetes");
    let pods = pods(&scratch);
    let set = object("statefulset.yaml", "StatefulSet", "sluice");

    // Step 1, on somebody's own machine.
    let prepare = Command::new(BINARY)
        .args(told("sluice cluster prepare"))
        .current_dir(pods[0].config.parent().unwrap())
        .output()
        .expect("the binary");
    assert!(prepare.status.success(), "{}", String::from_utf8_lossy(&prepare.stderr));
    let bundle = pods[0].config.with_file_name("sluice-join.bundle").display().to_string();

    // Step 2: the init container, then the container; both again, as at every start of a pod.
    let [join, run] = ["spec.template.spec.initContainers[0].args", "spec.template.spec.containers[0].args"].map(|path| texts(&set, path));
    let start = |pod: &Pod| {
        pod.run(&join, &bundle).unwrap_or_else(|error| panic!("{}: {error}", pod.name));
        let args: Vec<String> = pod.command(&run, &bundle).get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        Process::start(&pod.name, BINARY, &args, pod.config.parent().unwrap(), &pod.config.with_file_name("log"))
    };
    let mut processes: Vec<Process> = pods.iter().map(start).collect();
    let probe = |pod: &Pod, which: &str| {
        let path = text(&set, &format!("spec.template.spec.containers[0].{which}.httpGet.path"));
        Client::new(pod.address).call("GET", &path).map(|answer| answer.status()).map_err(|error| error.to_string())
    };
    for pod in &pods {
        let alive = || if probe(pod, "livenessProbe")? == 200 { Ok(()) } else { Err("not alive".to_owned()) };
        eventually(Duration::from_secs(60), &format!("{} to be alive", pod.name), alive);
        assert_eq!(probe(pod, "readinessProbe"), Ok(503), "{} waits for the others", pod.name);
    }

    // Step 3.
    eventually(Duration::from_secs(60), "the cluster to be founded", || pods[0].run(&told("sluice cluster init"), &bundle));
    let ready = |pod: &Pod| {
        let is_ready = || if probe(pod, "readinessProbe")? == 200 { Ok(()) } else { Err("not ready".to_owned()) };
        eventually(Duration::from_secs(60), &format!("{} to be ready", pod.name), is_ready);
    };
    pods.iter().for_each(ready);

    // A pod is moved: what runs before it is stopped, the same name and the same volume afterwards.
    let drain = texts(&set, "spec.template.spec.containers[0].lifecycle.preStop.exec.command");
    pods[1].run(&drain[1..], &bundle).expect("drained");
    assert_eq!(probe(&pods[1], "readinessProbe"), Ok(503), "the Service sends it nothing any more");
    let grace = text(&set, "spec.template.spec.terminationGracePeriodSeconds").parse().expect("a number");
    assert!(processes[1].terminate(Duration::from_secs(grace)).success());
    processes[1] = start(&pods[1]);
    ready(&pods[1]);
}
