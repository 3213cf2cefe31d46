//! Faults: an object store and a catalog that refuse, lose answers, hold, delay and count, by operation and path.
//!
//! One [`Faults`] is the set of rules; a [`FaultStore`] or [`FaultCatalog`] obeys it. A rule names an operation and a
//! pattern; a path matches when it contains the pattern's parts, those between `*`, in their order.

mod catalog;

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use tokio::sync::watch;

pub use catalog::FaultCatalog;

/// What a rule watches. Of a store: put, get, list, delete; of a catalog the rest, whose path is the table's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Put,
    Get,
    List,
    Delete,
    CreateTable,
    LoadTable,
    DropTable,
    CommitTable,
}

/// What happens to an operation. A lost answer is an error; of a commit, `OutcomeUnknown`.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Not applied, and the answer is lost.
    Refuse,
    /// Applied, and the answer is lost.
    FailAfter,
    /// Applied twice, as a proxy repeats a request; the answer is the second's.
    Repeat,
    /// Waits at the gate, then is applied and answered; applied too if the caller no longer waits.
    Hold(Gate),
    /// The answer is lost at once; applied when the gate opens.
    Late(Gate),
    /// Applied and answered after this time; applied too if the caller no longer waits.
    Delay(Duration),
}

/// Where an operation waits. Clones are one gate.
#[derive(Debug, Clone)]
pub struct Gate(watch::Sender<GateState>);

#[derive(Debug, Clone, Copy, Default)]
struct GateState {
    arrived: usize,
    open: bool,
    passed: usize,
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self(watch::Sender::new(GateState::default()))
    }

    /// Waits until an operation has arrived.
    pub async fn reached(&self) {
        self.until(|state| state.arrived > 0).await;
    }

    /// Lets through what waits and what comes.
    pub fn release(&self) {
        self.0.send_modify(|state| state.open = true);
    }

    /// Lets through what waits, and returns once every operation that arrived was applied.
    pub async fn release_and_settle(&self) {
        self.release();
        self.until(|state| state.passed == state.arrived).await;
    }

    pub(super) async fn pass(&self) {
        self.0.send_modify(|state| state.arrived += 1);
        self.until(|state| state.open).await;
    }

    pub(super) fn passed(&self) {
        self.0.send_modify(|state| state.passed += 1);
    }

    async fn until(&self, reached: impl FnMut(&GateState) -> bool) {
        // The sender is alive in `self`.
        let mut state = self.0.subscribe();
        let _reached = state.wait_for(reached).await;
    }
}

type Chooser = Box<dyn FnMut(Op, &str) -> Option<Fault> + Send>;

#[derive(Default)]
struct Rules {
    rules: Vec<Rule>,
    chooser: Option<Chooser>,
    calls: Vec<(Op, String)>,
}

struct Rule {
    op: Op,
    pattern: String,
    fault: Fault,
    once: bool,
}

/// A set of rules. The first that matches decides; clones share it.
#[derive(Clone, Default)]
pub struct Faults(Arc<Mutex<Rules>>);

impl Faults {
    /// The next matching operation meets the fault.
    pub fn once(&self, op: Op, pattern: &str, fault: Fault) {
        self.add(op, pattern, fault, true);
    }

    /// Every matching operation meets the fault, until [`Faults::clear`].
    pub fn always(&self, op: Op, pattern: &str, fault: Fault) {
        self.add(op, pattern, fault, false);
    }

    /// The next matching operation waits at the gate that this returns.
    pub fn hold(&self, op: Op, pattern: &str) -> Gate {
        let gate = Gate::new();
        self.once(op, pattern, Fault::Hold(gate.clone()));
        gate
    }

    /// Asks `choose` for the fault of every operation that no rule matches.
    pub fn choose(&self, choose: impl FnMut(Op, &str) -> Option<Fault> + Send + 'static) {
        self.rules().chooser = Some(Box::new(choose));
    }

    /// Ends every rule. What waits at a gate stays there.
    pub fn clear(&self) {
        let mut rules = self.rules();
        rules.rules.clear();
        rules.chooser = None;
    }

    /// How many matching operations came, whatever met them.
    pub fn calls(&self, op: Op, pattern: &str) -> usize {
        let [calls] = self.counts(|other, path| [other == op && matches(pattern, path)]);
        calls
    }

    /// How many operations came of each kind that `kinds` tells apart, all at one moment.
    pub fn counts<const N: usize>(&self, kinds: impl Fn(Op, &str) -> [bool; N]) -> [usize; N] {
        let mut counts = [0; N];
        for (op, path) in &self.rules().calls {
            for (count, is_one) in counts.iter_mut().zip(kinds(*op, path)) {
                *count += usize::from(is_one);
            }
        }
        counts
    }

    /// A store over `inner`, whose keys are relative to `root`.
    pub fn store(&self, root: &str, inner: impl ObjectStore) -> landfast::storage::Store {
        let objects = FaultStore {
            inner: Arc::new(inner),
            faults: self.clone(),
        };
        landfast::storage::Store::new(root, Arc::new(objects))
    }

    fn add(&self, op: Op, pattern: &str, fault: Fault, once: bool) {
        let pattern = pattern.to_owned();
        self.rules().rules.push(Rule {
            op,
            pattern,
            fault,
            once,
        });
    }

    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn draw(&self, op: Op, path: &str) -> Option<Fault> {
        let mut rules = self.rules();
        rules.calls.push((op, path.to_owned()));
        let found = rules
            .rules
            .iter()
            .position(|rule| rule.op == op && matches(&rule.pattern, path));
        match found {
            Some(at) if rules.rules[at].once => Some(rules.rules.remove(at).fault),
            Some(at) => Some(rules.rules[at].fault.clone()),
            None => rules.chooser.as_mut().and_then(|choose| choose(op, path)),
        }
    }

    /// Does the work as the rules say; `None` when the answer is lost.
    async fn run<T, Work>(&self, op: Op, path: &str, work: impl Fn() -> Work) -> Option<T>
    where
        T: Send + 'static,
        Work: Future<Output = T> + Send + 'static,
    {
        match self.draw(op, path) {
            None => Some(work().await),
            Some(Fault::Refuse) => None,
            Some(Fault::FailAfter) => {
                work().await;
                None
            }
            Some(Fault::Repeat) => {
                work().await;
                Some(work().await)
            }
            Some(Fault::Delay(time)) => {
                let delayed = work();
                sent(async move {
                    tokio::time::sleep(time).await;
                    delayed.await
                })
                .await
            }
            Some(Fault::Hold(gate)) => {
                let held = work();
                sent(async move {
                    gate.pass().await;
                    let answer = held.await;
                    gate.passed();
                    answer
                })
                .await
            }
            Some(Fault::Late(gate)) => {
                let late = work();
                let arrived = gate.clone();
                tokio::spawn(async move {
                    gate.pass().await;
                    late.await;
                    gate.passed();
                });
                arrived.reached().await;
                None
            }
        }
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").finish_non_exhaustive()
    }
}

/// Work that is on its way: a caller that stops waiting does not call it back.
async fn sent<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Option<T> {
    tokio::spawn(work).await.ok()
}

fn matches(pattern: &str, path: &str) -> bool {
    let mut rest = path;
    pattern.split('*').all(|part| match rest.split_once(part) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

/// An object store that obeys [`Faults`].
#[derive(Debug)]
pub struct FaultStore {
    inner: Arc<dyn ObjectStore>,
    faults: Faults,
}

impl FaultStore {
    async fn run<T, Work>(&self, op: Op, path: &Path, work: impl Fn() -> Work) -> object_store::Result<T>
    where
        T: Send + 'static,
        Work: Future<Output = object_store::Result<T>> + Send + 'static,
    {
        let answer = self.faults.run(op, path.as_ref(), work).await;
        answer.unwrap_or_else(|| Err(lost()))
    }

    fn listing(
        &self,
        prefix: Option<&Path>,
        list: impl Fn(&dyn ObjectStore, Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>>
        + Send
        + 'static,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let (faults, inner, prefix) = (self.faults.clone(), self.inner.clone(), prefix.cloned());
        let path = prefix.clone().unwrap_or_default();
        let begun = async move {
            let started = faults.run(Op::List, path.as_ref(), || async {}).await;
            started
                .map(|()| list(inner.as_ref(), prefix.as_ref()))
                .ok_or_else(lost)
        };
        stream::once(begun).try_flatten().boxed()
    }
}

fn lost() -> object_store::Error {
    object_store::Error::Generic {
        store: "faults",
        source: "the answer is lost".into(),
    }
}

impl fmt::Display for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultStore({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for FaultStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        let put = || {
            let (inner, location) = (self.inner.clone(), location.clone());
            let (payload, options) = (payload.clone(), options.clone());
            async move { inner.put_opts(&location, payload, options).await }
        };
        self.run(Op::Put, location, put).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        let get = || {
            let (inner, location, options) = (self.inner.clone(), location.clone(), options.clone());
            async move { inner.get_opts(&location, options).await }
        };
        self.run(Op::Get, location, get).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> object_store::Result<Vec<Bytes>> {
        let get = || {
            let (inner, location, ranges) = (self.inner.clone(), location.clone(), ranges.to_vec());
            async move { inner.get_ranges(&location, &ranges).await }
        };
        self.run(Op::Get, location, get).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        let (faults, inner) = (self.faults.clone(), self.inner.clone());
        let delete = move |location: Path| {
            let (faults, inner) = (faults.clone(), inner.clone());
            async move {
                let path = location.clone();
                let delete = || {
                    let inner = inner.clone();
                    let one = stream::once(std::future::ready(Ok(location.clone()))).boxed();
                    async move { inner.delete_stream(one).try_collect::<Vec<_>>().await }
                };
                let deleted = faults.run(Op::Delete, path.as_ref(), delete).await;
                deleted.unwrap_or_else(|| Err(lost()))?;
                Ok(path)
            }
        };
        locations.and_then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.listing(prefix, |inner, prefix| inner.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let offset = offset.clone();
        self.listing(prefix, move |inner, prefix| {
            inner.list_with_offset(prefix, &offset)
        })
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        let path = prefix.cloned().unwrap_or_default();
        let list = || {
            let (inner, prefix) = (self.inner.clone(), prefix.cloned());
            async move { inner.list_with_delimiter(prefix.as_ref()).await }
        };
        self.run(Op::List, &path, list).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
