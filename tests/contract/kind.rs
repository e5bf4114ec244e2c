//! The drivers as a parameter of cases.

use std::fmt::Debug;
use std::io;
use std::process::{Command, Stdio};

use xps::internals::buffer::PoolConfig;
use xps::internals::driver::{
    Epoll, EpollConfig, Feature, FeatureSet, KernelDriver, Offload, Uring, UringConfig, kernel_features,
};

use crate::rig::Rig;
use crate::simulated::Simulated;
use crate::support::environment::{bulk, skip};
use crate::world::World;

/// A driver, and its properties.
pub trait Kind: Copy + Debug + Send + 'static {
    type Driver: World;

    /// A new one; only a kernel driver uses the `Offload`.
    fn driver(self, pool: PoolConfig, offload: Offload) -> io::Result<Self::Driver>;

    /// Whether sockets that receive bulk data get large buffers.
    fn has_large_buffers(self) -> bool;

    /// Whether a socket is switched to them, and counted, because of what it receives.
    fn has_promotions(self) -> bool {
        self.has_large_buffers()
    }

    /// Why this process cannot use the driver, if so.
    fn obstacle(self) -> Option<io::Error> {
        None
    }

    /// The kinds that each case runs on, one after the other.
    fn variants(self) -> Vec<Self> {
        vec![self]
    }

    /// More bytes than the sockets of a connection hold.
    fn more_than_sockets_hold(self) -> usize {
        32 << 20
    }
}

/// A driver on a real kernel.
pub trait KernelKind: Kind<Driver: KernelDriver> {}
impl<K: Kind<Driver: KernelDriver>> KernelKind for K {}

/// io_uring without some features.
#[derive(Clone, Copy, Debug)]
pub struct OnUring {
    pub off: FeatureSet,
}

impl OnUring {
    pub const fn without(feature: Feature) -> Self {
        Self { off: FeatureSet::NONE.with(feature) }
    }
}

impl Kind for OnUring {
    type Driver = Uring;

    fn driver(self, pool: PoolConfig, offload: Offload) -> io::Result<Uring> {
        Uring::new(UringConfig { off: self.off, offload, ..UringConfig::new(pool) })
    }

    fn has_large_buffers(self) -> bool {
        let features = kernel_features().minus(self.off);
        features.has(Feature::BufferRing) && features.has(Feature::LargeBuffers)
    }

    fn obstacle(self) -> Option<io::Error> {
        self.driver(PoolConfig::default(), Offload::default()).err()
    }
}

/// epoll.
#[derive(Clone, Copy, Debug)]
pub struct OnEpoll;

impl Kind for OnEpoll {
    type Driver = Epoll;

    fn driver(self, pool: PoolConfig, offload: Offload) -> io::Result<Epoll> {
        Epoll::new(EpollConfig { pool, offload })
    }

    fn has_large_buffers(self) -> bool {
        true
    }
}

/// The simulation.
#[derive(Clone, Copy, Debug)]
pub struct OnSim {
    pub seed: u64,
}

/// How many seeds each case runs with.
const SEEDS: u64 = 6;

impl Kind for OnSim {
    type Driver = Simulated;

    fn driver(self, pool: PoolConfig, _: Offload) -> io::Result<Simulated> {
        Ok(Simulated::new(pool, self.seed))
    }

    fn has_large_buffers(self) -> bool {
        true
    }

    /// It fills buffers of either size at random.
    fn has_promotions(self) -> bool {
        false
    }

    fn variants(self) -> Vec<Self> {
        (0..SEEDS).map(|number| Self { seed: self.seed + number }).collect()
    }

    fn more_than_sockets_hold(self) -> usize {
        1 << 20
    }
}

/// One case on one driver.
pub struct Case<K> {
    pub kind: K,
    /// The test's name in the test runner.
    name: String,
    is_thorough: bool,
}

impl<K: Kind> Case<K> {
    /// A driver with enough buffers.
    pub fn rig(&self) -> Rig<K::Driver> {
        self.rig_with(PoolConfig::default())
    }

    pub fn rig_with(&self, pool: PoolConfig) -> Rig<K::Driver> {
        Rig::new(self.kind.driver(pool, Offload::default()).expect("a driver"))
    }

    /// A driver that uses this `Offload`.
    pub fn rig_with_offload(&self, offload: Offload) -> Rig<K::Driver> {
        Rig::new(self.kind.driver(PoolConfig::default(), offload).expect("a driver"))
    }

    /// An amount of data; less if the driver runs the suite again without some features.
    pub fn plenty(&self, bytes: usize) -> usize {
        if self.is_thorough { bulk(bytes) } else { bulk(bytes) / 8 }
    }

    /// Whether this is the child process with few descriptors. If not, starts that process, which
    /// runs this case, and checks its result.
    #[track_caller]
    pub fn is_in_child_with_descriptors(&self, limit: u32) -> bool {
        const CHILD: &str = "XPS_CONTRACT_CHILD";
        if std::env::var_os(CHILD).is_some() {
            return true;
        }
        let program = std::env::current_exe().expect("this program has a name");
        let output = Command::new("sh")
            .args(["-c", &format!("ulimit -n {limit} && exec \"$0\" \"$@\"")])
            .arg(program)
            .args(["--exact", &self.name, "--nocapture"])
            .env(CHILD, "1")
            .stdin(Stdio::null())
            .output()
            .expect("a shell");
        let said = String::from_utf8_lossy(&output.stdout);
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("1 passed"), "{said}\n{complained}");
        false
    }
}

/// Runs a case, or reports it as skipped if the driver is unavailable. With
/// `XPS_REQUIRE_IO_URING=1` that is a failure: a gate must not pass without testing anything.
pub fn run<K: Kind>(module_path: &'static str, name: &'static str, kind: K, is_thorough: bool, case: fn(&Case<K>)) {
    let name = match module_path.split_once("::") {
        Some((_, path)) => format!("{path}::{name}"),
        None => name.to_owned(),
    };
    match kind.obstacle() {
        None => {
            for kind in kind.variants() {
                // Shown if the case fails.
                println!("on {kind:?}");
                case(&Case { kind, name: name.clone(), is_thorough });
            }
        }
        Some(why) if std::env::var("XPS_REQUIRE_IO_URING").is_ok_and(|required| required == "1") => {
            panic!("XPS_REQUIRE_IO_URING is set, and io_uring is unavailable: {why}")
        }
        Some(why) => skip(&name, &why.to_string()),
    }
}
