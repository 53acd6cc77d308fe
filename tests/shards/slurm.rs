//! A real Slurm on this machine, started and ended here: the batch files as they stand, with tasks killed and cancelled
//! on the way. Where Slurm is not installed (Debian: slurm-wlm) this is passed over, unless `ENGINE_REQUIRE_SLURM` says
//! that it must not be.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use super::*;

/// Views of the scene, and shards.
const VIEWS: u32 = 60;
const SHARDS: usize = 6;

/// One node that is said to be large, so that all tasks run at once.
struct Cluster {
    root: TempDir,
    daemons: Vec<Child>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for daemon in &mut self.daemons {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

fn is_installed() -> bool {
    let there = |name: &str| ["/usr/sbin", "/usr/bin", "/sbin"].iter().any(|dir| Path::new(dir).join(name).exists());
    let all = ["slurmctld", "slurmd", "sbatch", "scancel", "squeue"].into_iter().all(there);
    assert!(all || std::env::var_os("ENGINE_REQUIRE_SLURM").is_none(), "Slurm is not installed");
    all
}

fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Cluster {
    fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        let dir = text(root.path());
        let _ = ["state", "spool", "logs"].map(|name| fs::create_dir(root.path().join(name)).unwrap());
        // SAFETY: asks for a number.
        let user = unsafe { libc::getuid() };
        let passwd = fs::read_to_string("/etc/passwd").unwrap();
        let name = passwd.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            (fields[2] == user.to_string()).then(|| fields[0].to_owned())
        });
        let (name, control, node) = (name.unwrap(), port(), port());
        let config = format!(
            "ClusterName=engine\nSlurmctldHost=localhost(127.0.0.1)\nSlurmUser={name}\nSlurmdUser={name}\n\
             AuthType=auth/none\nCredType=cred/none\nSlurmctldPort={control}\nSlurmdPort={node}\n\
             StateSaveLocation={dir}/state\nSlurmdSpoolDir={dir}/spool\nSlurmctldPidFile={dir}/ctld.pid\n\
             SlurmdPidFile={dir}/slurmd.pid\nSlurmctldLogFile={dir}/logs/ctld\nSlurmdLogFile={dir}/logs/slurmd\n\
             ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\nMpiDefault=none\nSwitchType=switch/none\n\
             SelectType=select/cons_tres\nSelectTypeParameters=CR_Core\nReturnToService=2\nJobRequeue=1\n\
             SlurmdParameters=config_overrides\nSchedulerParameters=sched_interval=1,batch_sched_delay=0\n\
             NodeName=here NodeHostname=localhost NodeAddr=127.0.0.1 CPUs=64 RealMemory=200000 State=UNKNOWN\n\
             PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP\n"
        );
        fs::write(root.path().join("slurm.conf"), config).unwrap();
        let mut cluster = Self { root, daemons: Vec::new() };
        for words in [&["slurmctld", "-D", "-i"][..], &["slurmd", "-D", "-N", "here"]] {
            let daemon = cluster.command(words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            cluster.daemons.push(daemon);
        }
        cluster.until("the node is there", || cluster.said(&["sinfo", "-h", "-o", "%T"]).contains("idle"));
        cluster
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(words[0]);
        let engine = Path::new(env!("CARGO_BIN_EXE_engine")).parent().unwrap();
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", text(engine));
        command.args(&words[1..]).env("PATH", path).env("SLURM_CONF", self.root.path().join("slurm.conf"));
        command.current_dir(self.root.path());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    fn said(&self, words: &[&str]) -> String {
        String::from_utf8(self.run(words).stdout).unwrap()
    }

    fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let began = Instant::now();
        while !is_so() {
            if began.elapsed() > Duration::from_secs(300) {
                let logs = files(&self.root.path().join("logs"));
                let logs: Vec<_> = logs.values().map(|log| String::from_utf8_lossy(log).into_owned()).collect();
                panic!("waited in vain: {what}\n{}\n{}", self.said(&["squeue"]), logs.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Sends the job as a user would.
    fn submit(&self, place: &Place, out: &str, parts: &[&str]) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/slurm/submit.sh");
        assert!(script.metadata().unwrap().permissions().mode() & 0o100 != 0);
        let (scene, out, shards) = (place.path("scene"), place.path(out), SHARDS.to_string());
        let words = [&[text(&script)], parts, &[text(&scene), text(&out), &shards], &OPTIONS[..]].concat();
        let sent = self.run(&words);
        assert!(sent.status.success(), "{sent:?}");
    }

    /// What the tasks have said.
    fn logs(&self) -> String {
        let logs = files(self.root.path());
        let logs = logs.iter().filter(|(path, _)| path.extension().is_some_and(|ending| ending == "log"));
        logs.map(|(path, text)| format!("{path:?} {}", String::from_utf8_lossy(text))).collect::<Vec<_>>().join("\n")
    }

    fn until_empty(&self) {
        // What waits for something that will never come is taken away by Slurm itself; what is to be started once more
        // waits two minutes first, for which nobody here has the time.
        self.until("the queue is empty", || {
            let queue = self.said(&["squeue", "-h", "-o", "%i %T %r"]);
            for waiting in queue.lines().filter(|line| line.contains("BeginTime")) {
                self.run(&[
                    "scontrol",
                    "update",
                    &format!("JobId={}", waiting.split(' ').next().unwrap()),
                    "StartTime=now",
                ]);
            }
            queue.trim().is_empty()
        });
    }
}

/// Processes of the program at work on shards in this folder.
fn at_work(out: &Path) -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        words.starts_with("engine infer") && words.contains(text(out)) && words.contains("--shard auto")
    })
    .collect()
}

#[test]
fn the_batch_files_give_a_single_runs_results_though_tasks_are_killed_and_cancelled() {
    if !is_installed() {
        return;
    }
    let place = Place::new(VIEWS);
    let alone = place.alone(&[]);
    let cluster = Cluster::start();
    let out = place.path("out");

    cluster.submit(&place, "out", &[]);
    let mut hit = 0;
    cluster.until("tasks are at work", || !at_work(&out).is_empty());
    // A third of them is killed by a signal that nobody can catch, and one is cancelled.
    let began = Instant::now();
    while hit < SHARDS / 3 && began.elapsed() < Duration::from_secs(20) {
        for pid in at_work(&out).into_iter().take(1) {
            // SAFETY: sends a signal; the process is one of this test's.
            hit += usize::from(unsafe { libc::kill(pid, libc::SIGKILL) } == 0);
        }
        std::thread::sleep(Duration::from_millis(30));
    }
    assert!(hit > 0, "every task was faster");
    let queue = cluster.said(&["squeue", "-h", "-r", "-o", "%A %j %K"]);
    if let Some(task) = queue.lines().find(|line| line.contains("engine-maps")) {
        cluster.run(&["scancel", task.split(' ').next().unwrap()]);
    }
    cluster.until_empty();
    // What was lost is sent once more, by the same line.
    if !out.join("fused.ply").exists() {
        cluster.submit(&place, "out", &[]);
        cluster.until_empty();
    }
    assert!(results(&out) == alone, "{}", cluster.logs());
    engine(["status", text(&out)]).done();

    // The cloud once more, by an array of tiles, and a mesh; what is before it is there.
    for file in ["fused.ply", "manifest.json", ".engine.finished.json"] {
        fs::remove_file(out.join(file)).unwrap();
    }
    cluster.submit(&place, "out", &["--tiles", "9", "--mesh", "5"]);
    cluster.until_empty();
    let [cloud, mesh]: [BTreeMap<_, _>; 2] = [false, true]
        .map(|of_mesh| results(&out).into_iter().filter(|(path, _)| path.starts_with("mesh") == of_mesh).collect());
    assert!(cloud == alone, "{}", cluster.logs());
    for (folder, count) in [("tiles", 9), ("mesh/tiles", 5)] {
        assert_eq!(tile_parts(&out.join(folder)).len(), count, "{}", cluster.logs());
    }
    // One task of the array has looked at the maps to cut space; the others have waited for it.
    for said in ["looking 1/1: 9 tiles", "cut 1/1: 5 tiles"] {
        assert_eq!(cluster.logs().matches(said).count(), 1, "{}", cluster.logs());
    }
    engine(["mesh", text(&out), "-o", text(&place.path("whole"))]).done();
    let whole = fs::read(place.path("whole/mesh.ply")).unwrap();
    assert!(mesh[Path::new("mesh/mesh.ply")] == whole, "{}", cluster.logs());
}
