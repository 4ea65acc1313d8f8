//! The capability `map/occupancy`, done by this program itself: a scan comes in, its occupancy grid goes out.

use futures::future::BoxFuture;
use futures::{AsyncReadExt as _, FutureExt as _};

use crate::base::{Code, Error};
use crate::runtime::task::{Job, Work};
use crate::work::occupancy::{Occupancy, Parameters};

/// The capability's name.
pub const NAME: &str = "map/occupancy";
/// The longest scan that is taken, bytes: it is in memory while it is worked on, and any member may send one.
const LONGEST: u64 = 256 << 20;
/// Units of work between two words of progress: about a tenth of a second.
const STEP: usize = 1_000_000;

/// Makes occupancy grids of cells of the length that suits each scan.
#[derive(Clone, Copy, Debug, Default)]
pub struct Grids;

async fn make(mut job: Job) -> Result<(), Error> {
    let mut bytes = Vec::new();
    let mut input = std::mem::replace(&mut job.input, Box::pin(futures::io::empty())).take(LONGEST + 1);
    let gone = |e| Error::new(Code::Aborted, "the input ended in its middle").caused_by(e);
    input.read_to_end(&mut bytes).await.map_err(gone)?;
    if bytes.len() as u64 > LONGEST {
        return Err(Error::new(Code::TooLarge, format!("a scan has at most {LONGEST} bytes here")));
    }
    let mut work = Occupancy::new(bytes, Parameters::default())?;
    loop {
        // On a thread of its own, one step at a time: a task that is cancelled ends with its step.
        let step = tokio::task::spawn_blocking(move || work.step(STEP).map(|progress| (work, progress)));
        let (next, progress) = step.await.map_err(|e| Error::new(Code::SupplierFailed, "the work stopped").caused_by(e))??;
        work = next;
        if progress.is_complete() {
            break;
        }
        job.progress(format!(r#"{{"done":{},"total":{}}}"#, progress.done, progress.total).as_bytes()).await?;
    }
    job.write(&work.finish()?.encode()).await
}

impl Work for Grids {
    fn run(&self, job: Job) -> BoxFuture<'static, Result<(), Error>> {
        make(job).boxed()
    }
}
