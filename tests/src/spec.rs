//! Pods and containers as a test describes them, and as kubelet would pass them to containerd.

use std::env;
use std::path::Path;

pub use k8s_cri::v1::MountPropagation;
use k8s_cri::v1::*;

/// Variable with another handler for the stories about Linux programs. With `runc`, the harness itself is tested.
const HANDLER: &str = "WASMTIME_SHIM_TEST_HANDLER";

/// Returns the runtime handler of the Pods.
pub fn handler() -> String {
    env::var(HANDLER).unwrap_or_else(|_| "wasmtime".into())
}

/// Returns containerd's runtime type of a handler.
pub fn runtime_of(handler: &str) -> String {
    match handler {
        "runc" => "io.containerd.runc.v2".into(),
        handler => format!("io.containerd.{handler}.v1"),
    }
}

/// Id on the node of the root user in a Pod with a user namespace.
pub const HOST_ID: u32 = 131_072;

/// A Pod to run.
#[derive(Debug, Clone)]
pub struct Pod {
    pub(crate) handler: String,
    config: PodSandboxConfig,
    namespaces: NamespaceOption,
}

impl Pod {
    /// Makes a Pod of that name with the handler under test.
    pub fn new(name: &str) -> Self {
        let metadata = PodSandboxMetadata {
            name: name.into(),
            uid: format!("{name}-uid"),
            namespace: "default".into(),
            attempt: 0,
        };
        let dns = DnsConfig {
            servers: vec!["10.96.0.10".into()],
            searches: vec!["default.svc.cluster.local".into()],
            options: vec!["ndots:5".into()],
        };
        let config = PodSandboxConfig {
            metadata: Some(metadata),
            hostname: name.into(),
            dns_config: Some(dns),
            ..Default::default()
        };
        Self { handler: handler(), config, namespaces: namespaces() }
    }

    /// Uses another runtime handler of the node.
    pub fn handler(mut self, name: &str) -> Self {
        self.handler = name.into();
        self
    }

    /// Lets containers that ask for it see each other's processes (`shareProcessNamespace`).
    pub fn shared_processes(mut self) -> Self {
        self.namespaces.pid = NamespaceMode::Pod.into();
        self
    }

    /// Uses a user namespace (`hostUsers: false`). Its containers must ask for it as well.
    pub fn user_namespace(mut self) -> Self {
        self.namespaces.userns_options = Some(user_namespace());
        self
    }

    /// Puts it into another Kubernetes namespace than `default`.
    pub fn namespace(mut self, name: &str) -> Self {
        self.config.metadata.get_or_insert_default().namespace = name.into();
        self
    }

    /// Uses that DNS server instead of the cluster's.
    pub fn dns_server(mut self, address: &str) -> Self {
        self.config.dns_config.get_or_insert_default().servers = vec![address.into()];
        self
    }

    /// Adds an annotation.
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.config.annotations.insert(key.into(), value.into());
        self
    }

    /// Returns the message for CRI.
    pub(crate) fn config(&self, logs: &Path, cgroup_parent: &str) -> PodSandboxConfig {
        let security_context = LinuxSandboxSecurityContext {
            namespace_options: Some(self.namespaces.clone()),
            ..Default::default()
        };
        PodSandboxConfig {
            log_directory: logs.display().to_string(),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: cgroup_parent.into(),
                security_context: Some(security_context),
                ..Default::default()
            }),
            ..self.config.clone()
        }
    }
}

/// A container to create in a Pod.
#[derive(Debug, Clone)]
pub struct Container {
    config: ContainerConfig,
    security: LinuxContainerSecurityContext,
    resources: LinuxContainerResources,
}

/// CPU shares that kubelet sets for a container without a CPU request, and those for each requested processor.
const NO_PROCESSOR: i64 = 2;
const PROCESSOR: i64 = 1024;

impl Container {
    /// Makes a container of that name with the image's own entrypoint and user.
    pub fn new(name: &str, image: &str) -> Self {
        let metadata = ContainerMetadata { name: name.into(), attempt: 0 };
        let config = ContainerConfig {
            metadata: Some(metadata),
            image: Some(ImageSpec { image: image.into(), ..Default::default() }),
            ..Default::default()
        };
        let security = LinuxContainerSecurityContext {
            namespace_options: Some(namespaces()),
            masked_paths: ["/proc/kcore", "/proc/keys", "/sys/firmware"].map(Into::into).into(),
            readonly_paths: ["/proc/bus", "/proc/sys"].map(Into::into).into(),
            ..Default::default()
        };
        let resources = LinuxContainerResources {
            cpu_shares: NO_PROCESSOR,
            oom_score_adj: 1000,
            ..Default::default()
        };
        Self { config, security, resources }
    }

    /// Sets the image as the Pod's author wrote it. CRI gets the image's id, as from kubelet.
    pub fn written(mut self, image: &str) -> Self {
        self.config.image.get_or_insert_default().user_specified_image = image.into();
        self
    }

    /// Restricts it to these processors (cpuset(7), "List format").
    pub fn processors(mut self, list: &str) -> Self {
        self.resources.cpuset_cpus = list.into();
        self
    }

    /// Requests this many processors (`requests.cpu`).
    pub fn cpu_request(mut self, processors: usize) -> Self {
        self.resources.cpu_shares = processors as i64 * PROCESSOR;
        self
    }

    /// Makes a container that runs a shell script, for images with a shell.
    pub fn shell(name: &str, image: &str, script: &str) -> Self {
        Self::new(name, image).command(&["/bin/sh", "-c", script])
    }

    /// Sets the number of this run of the container, counted from 0.
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.config.metadata.get_or_insert_default().attempt = attempt;
        self
    }

    /// Keeps its input open.
    pub fn stdin(mut self) -> Self {
        self.config.stdin = true;
        self
    }

    /// Replaces the image's entrypoint.
    pub fn command(mut self, words: &[&str]) -> Self {
        self.config.command = words.iter().map(|&word| word.into()).collect();
        self
    }

    /// Replaces the image's arguments.
    pub fn args(mut self, words: &[&str]) -> Self {
        self.config.args = words.iter().map(|&word| word.into()).collect();
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.config.envs.push(KeyValue { key: key.into(), value: value.into() });
        self
    }

    /// Replaces the image's working directory.
    pub fn working_dir(mut self, path: &str) -> Self {
        self.config.working_dir = path.into();
        self
    }

    /// Mounts the host's `source` at `target`, for reading and writing.
    pub fn mount(self, source: &Path, target: &str) -> Self {
        self.any_mount(source, target, false)
    }

    /// As [`Container::mount`]. The container also sees what the host mounts below `source` later (`mountPropagation`).
    pub fn mount_with(
        mut self,
        source: &Path,
        target: &str,
        propagation: MountPropagation,
    ) -> Self {
        self = self.any_mount(source, target, false);
        if let Some(mount) = self.config.mounts.last_mut() {
            mount.propagation = propagation.into();
        }
        self
    }

    /// Mounts the host's `source` at `target`, for reading only.
    pub fn readonly_mount(self, source: &Path, target: &str) -> Self {
        self.any_mount(source, target, true)
    }

    fn any_mount(mut self, source: &Path, target: &str, readonly: bool) -> Self {
        self.config.mounts.push(Mount {
            host_path: source.display().to_string(),
            container_path: target.into(),
            readonly,
            ..Default::default()
        });
        self
    }

    /// Shares the processes of its Pod, if the Pod shares them.
    pub fn shared_processes(mut self) -> Self {
        self.security.namespace_options.get_or_insert_default().pid = NamespaceMode::Pod.into();
        self
    }

    /// Uses the Pod's user namespace.
    pub fn user_namespace(mut self) -> Self {
        let namespaces = self.security.namespace_options.get_or_insert_default();
        namespaces.userns_options = Some(user_namespace());
        self
    }

    /// Runs as this user and group.
    pub fn user(mut self, uid: i64, gid: i64) -> Self {
        self.security.run_as_user = Some(Int64Value { value: uid });
        self.security.run_as_group = Some(Int64Value { value: gid });
        self
    }

    /// Adds these groups.
    pub fn supplemental_groups(mut self, groups: &[i64]) -> Self {
        self.security.supplemental_groups = groups.into();
        self
    }

    /// Uses the runtime's own seccomp profile (`seccompProfile.type: RuntimeDefault`).
    pub fn runtime_default_seccomp(mut self) -> Self {
        let profile = security_profile::ProfileType::RuntimeDefault.into();
        self.security.seccomp =
            Some(SecurityProfile { profile_type: profile, ..Default::default() });
        self
    }

    /// Uses the seccomp profile in that file of the node (`seccompProfile.type: Localhost`).
    pub fn localhost_seccomp(mut self, file: &Path) -> Self {
        self.security.seccomp = Some(SecurityProfile {
            profile_type: security_profile::ProfileType::Localhost.into(),
            localhost_ref: file.display().to_string(),
        });
        self
    }

    /// Limits its memory, in bytes.
    pub fn memory_limit(mut self, bytes: i64) -> Self {
        self.resources.memory_limit_in_bytes = bytes;
        self
    }

    /// Limits its huge pages of that size (`2MB`), in bytes.
    pub fn huge_pages(mut self, size: &str, bytes: u64) -> Self {
        let limit = HugepageLimit { page_size: size.into(), limit: bytes };
        self.resources.hugepage_limits.push(limit);
        self
    }

    /// Sets this file of its cgroup, on v2.
    pub fn cgroup_file(mut self, file: &str, value: &str) -> Self {
        self.resources.unified.insert(file.into(), value.into());
        self
    }

    /// Adds a capability, without `CAP_`.
    pub fn capability(mut self, name: &str) -> Self {
        let capabilities = self.security.capabilities.get_or_insert_default();
        capabilities.add_capabilities.push(name.into());
        self
    }

    /// Adds a device of the host. `permissions` are some of `rwm`.
    pub fn device(mut self, host: &str, container: &str, permissions: &str) -> Self {
        self.config.devices.push(Device {
            host_path: host.into(),
            container_path: container.into(),
            permissions: permissions.into(),
        });
        self
    }

    /// Makes its root file system read-only.
    pub fn readonly_rootfs(mut self) -> Self {
        self.security.readonly_rootfs = true;
        self
    }

    /// Returns the message for CRI, with the limits that kubelet gives a Pod that asks for no others.
    pub(crate) fn config(&self) -> ContainerConfig {
        let metadata = self.config.metadata.clone().unwrap_or_default();
        ContainerConfig {
            log_path: format!("{}-{}.log", metadata.name, metadata.attempt),
            linux: Some(LinuxContainerConfig {
                resources: Some(self.resources.clone()),
                security_context: Some(self.security.clone()),
            }),
            ..self.config.clone()
        }
    }
}

/// Makes a user namespace as kubelet gives one to a Pod.
fn user_namespace() -> UserNamespace {
    let ids = vec![IdMapping { host_id: HOST_ID, container_id: 0, length: 65536 }];
    UserNamespace { mode: NamespaceMode::Pod.into(), uids: ids.clone(), gids: ids }
}

fn namespaces() -> NamespaceOption {
    NamespaceOption { pid: NamespaceMode::Container.into(), ..Default::default() }
}
