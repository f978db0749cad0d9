//! What control groups allow a process, in both versions of their file system.

use crate::doctor::root::Root;

const MOUNT: &str = "/sys/fs/cgroup";
/// From here on a limit of version 1 is none: it shows the largest number of pages.
const V1_UNLIMITED: u64 = 1 << 62;

/// The tightest limits on the way from a process's group to the root. `None` is none, or not known.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Cgroup {
    /// Bytes of memory, the kernel's for the process among them.
    pub memory_max: Option<u64>,
    /// Processes and threads that may be there, and that are there.
    pub pids: Option<(u64, u64)>,
    /// Thousandths of a CPU that may be used.
    pub cpu_quota: Option<u64>,
    /// Periods of the quota that ended with the group stopped, and all of them, since the group is there.
    pub throttled: Option<(u64, u64)>,
}

/// Where the groups of a process are: the directory of the hierarchy, and the group's path in it.
struct Places {
    unified: Option<(String, String)>,
    memory: Option<(String, String)>,
    pids: Option<(String, String)>,
    cpu: Option<(String, String)>,
}

impl Cgroup {
    /// Reads the limits of a process's groups; `None` if it is not known which they are.
    pub fn read(root: &Root, process: &str) -> Option<Cgroup> {
        let groups = root.text(&format!("/proc/{process}/cgroup"))?;
        let places = Places::find(root, &groups);
        let unified = |file: &'static str| values(root, &places.unified, file);
        let v1 = |place, file: &'static str| values(root, place, file);

        let memory_v2 = unified("memory.max").into_iter().filter_map(|text| text.parse().ok());
        let memory_v1 = v1(&places.memory, "memory.limit_in_bytes").into_iter().filter_map(|text| text.parse().ok());
        let memory_max = memory_v2.chain(memory_v1.filter(|&bytes| bytes < V1_UNLIMITED)).min();

        let quotas_v2 = unified("cpu.max").into_iter().filter_map(|text| {
            let (quota, period) = text.split_once(' ')?;
            thousandths(quota, period)
        });
        let v1_quotas = v1(&places.cpu, "cpu.cfs_quota_us");
        let v1_periods = v1(&places.cpu, "cpu.cfs_period_us");
        let quotas_v1 = v1_quotas.iter().zip(&v1_periods).filter_map(|(quota, period)| thousandths(quota, period));

        let stat = unified("cpu.stat").into_iter().chain(v1(&places.cpu, "cpu.stat")).find(|text| !text.is_empty());
        Some(Cgroup {
            memory_max,
            pids: pids(root, &places.unified).or_else(|| pids(root, &places.pids)),
            cpu_quota: quotas_v2.chain(quotas_v1).min(),
            throttled: stat
                .and_then(|text| Some((stat_field(&text, "nr_throttled")?, stat_field(&text, "nr_periods")?))),
        })
    }
}

impl Places {
    /// Understands `/proc/self/cgroup`: `0::/path` is version 2, `4:memory:/path` one hierarchy of version 1.
    fn find(root: &Root, groups: &str) -> Places {
        let path_of = |controller: &str| {
            groups.lines().find_map(|line| {
                let mut fields = line.splitn(3, ':').skip(1);
                let (controllers, path) = (fields.next()?, fields.next()?);
                controllers.split(',').any(|name| name == controller).then(|| path.to_owned())
            })
        };
        let v1 = |controller: &str| Some((format!("{MOUNT}/{controller}"), path_of(controller)?));
        let hybrid = format!("{MOUNT}/unified");
        let mount = if root.exists(&hybrid) { hybrid } else { MOUNT.to_owned() };
        Places {
            unified: path_of("").map(|path| (mount, path)),
            memory: v1("memory"),
            pids: v1("pids"),
            cpu: v1("cpu"),
        }
    }
}

/// A file's text in a group and in all above it. In a container the path may be that of the host, which is not to be
/// seen: then the hierarchy's root, which is the container's group, is what is left.
fn values(root: &Root, place: &Option<(String, String)>, file: &str) -> Vec<String> {
    let Some((mount, path)) = place else { return Vec::new() };
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]).collect::<Vec<_>>();
    let groups = ends.into_iter().rev().filter_map(|end| path.get(..end));
    groups.filter_map(|group| root.text(&format!("{mount}{}/{file}", group.trim_end_matches('/')))).collect()
}

/// The tightest bound on processes, with those that are there now.
fn pids(root: &Root, place: &Option<(String, String)>) -> Option<(u64, u64)> {
    let bounds = values(root, place, "pids.max");
    let present = values(root, place, "pids.current");
    let pair = |(bound, now): (&String, &String)| Some((bound.parse::<u64>().ok()?, now.parse::<u64>().ok()?));
    bounds.iter().zip(&present).filter_map(pair).min_by_key(|(bound, now)| bound.saturating_sub(*now))
}

fn thousandths(quota: &str, period: &str) -> Option<u64> {
    let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok()?);
    quota.checked_mul(1000)?.checked_div(period)
}

fn stat_field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}
