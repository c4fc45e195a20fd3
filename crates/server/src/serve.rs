//! Listening, accepting, ending.

use crate::app::{App, Phase};
use crate::config::Config;
use crate::error::Error;
use crate::model::{Loaded, Model};
use crate::routes::router;
use crate::stall::Stalling;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::time::{sleep, timeout};

/// Most bytes of a request's line and headers together.
const HEAD_BYTES: usize = 64 << 10;
/// Files the process needs besides connections.
const OTHER_FILES: u64 = 64;
/// How long streams have to write their ends once the engine was stopped.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Threads that serve sockets; parsing has others.
const THREADS: usize = 2;

/// A server that listens; nobody is answered before [`Server::start`].
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    config: Config,
}

/// A server that answers.
pub struct Handle {
    app: Arc<App>,
    address: SocketAddr,
    runtime: Arc<Runtime>,
    thread: JoinHandle<()>,
    end: Arc<Notify>,
}

impl Server {
    /// Takes the port.
    ///
    /// # Errors
    /// [`Error::Host`], [`Error::Bind`].
    pub fn bind(mut config: Config) -> Result<Server, Error> {
        let unknown = |source| Error::Host { host: config.host.clone(), source };
        let mut addresses = (config.host.as_str(), config.port).to_socket_addrs().map_err(unknown)?;
        let none = || std::io::Error::new(std::io::ErrorKind::NotFound, "no address");
        let address = addresses.next().ok_or_else(|| unknown(none()))?;
        let failed = |source| Error::Bind { address, source };
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        config.connections = config.connections.min(files());
        Ok(Server { listener, address, config })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers from now on; that the model is being loaded, until [`Handle::ready`].
    ///
    /// # Errors
    /// [`Error::Start`].
    pub fn start(self) -> Result<Handle, Error> {
        let Server { listener, address, config } = self;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("serve")
            .enable_all()
            .build()
            .map_err(Error::Start)?;
        let runtime = Arc::new(runtime);
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener).map_err(Error::Start)?
        };
        let app = Arc::new(App::new(config));
        let end = Arc::new(Notify::new());
        let thread = {
            let (app, end, runtime) = (app.clone(), end.clone(), runtime.clone());
            let serve = move || runtime.block_on(serve(app, listener, end));
            thread::Builder::new().name("accept".to_owned()).spawn(serve).map_err(Error::Start)?
        };
        Ok(Handle { app, address, runtime, thread, end })
    }
}

impl Handle {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves a model, until SIGTERM or Ctrl-C.
    ///
    /// # Errors
    /// [`Error::Engine`] if the system prompt cannot be computed; [`Error::Start`].
    pub fn ready(&self, loaded: Loaded) -> Result<(), Error> {
        // The state owns the engine's thread, so that must not own the state.
        let (app, end) = (Arc::downgrade(&self.app), self.end.clone());
        let closed = Box::new(move |why: Option<&str>| {
            if why.is_some()
                && let Some(app) = app.upgrade()
            {
                app.enter(Phase::Failed);
            }
            end.notify_one();
        });
        let model = Model::start(loaded, closed)?;
        {
            let _inside = self.runtime.enter();
            for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
                let mut signals = signal(kind).map_err(Error::Start)?;
                let end = self.end.clone();
                self.runtime.spawn(async move {
                    while signals.recv().await.is_some() {
                        end.notify_one();
                    }
                });
            }
        }
        self.app.serve(model);
        Ok(())
    }

    /// Ends as if by a signal: what runs may go on for a while.
    pub fn end(&self) {
        self.end.notify_one();
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// [`Error::Engine`] if it was not asked for.
    pub fn wait(self) -> Result<(), Error> {
        let Handle { app, thread, runtime, .. } = self;
        let panicked = thread.join().is_err();
        if let Ok(runtime) = Arc::try_unwrap(runtime) {
            runtime.shutdown_timeout(LAST_WORDS);
        }
        let failure = app.loaded().and_then(|model| model.service.failure());
        match failure {
            Some(why) => Err(Error::Engine(why.to_owned())),
            None if panicked => Err(Error::Engine("an internal error, printed above".to_owned())),
            None => Ok(()),
        }
    }
}

/// As many connections as the process may have files; the system is asked for as many as it gives.
fn files() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Refused, the process keeps what it has.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(files.saturating_sub(OTHER_FILES).max(OTHER_FILES)).unwrap_or(usize::MAX)
}

/// Accepts until the end, then lets what runs come to its end.
async fn serve(app: Arc<App>, listener: tokio::net::TcpListener, end: Arc<Notify>) {
    let router = router(app.clone());
    let places = Arc::new(Semaphore::new(app.config.connections));
    let (drain, drains) = watch::channel(false);
    // Everybody who came before the end holds one; they are all gone when nobody does.
    let (early, mut earlies) = mpsc::channel::<()>(1);
    let accept = |early: Option<mpsc::Sender<()>>| {
        let (app, places, router, drains) = (app.clone(), places.clone(), router.clone(), drains.clone());
        let listener = &listener;
        async move {
            loop {
                let Ok(place) = places.clone().acquire_owned().await else { return };
                let Ok((socket, _)) = listener.accept().await else {
                    // No files, most likely: they come back as connections end.
                    sleep(Duration::from_millis(50)).await;
                    continue;
                };
                let (app, router, drains, early) =
                    (app.clone(), router.clone(), drains.clone(), early.clone());
                tokio::spawn(async move {
                    connection(&app, socket, router, drains).await;
                    drop((place, early));
                });
            }
        }
    };
    tokio::select! {
        () = accept(Some(early.clone())) => {}
        () = end.notified() => {}
    }
    drop(early);
    app.enter(Phase::Draining);
    if let Some(model) = app.loaded() {
        model.service.drain();
    }
    let _ = drain.send(true);
    let ended = async {
        tokio::select! {
            _ = earlies.recv() => {}
            () = sleep(app.config.drain_time) => {}
            // Asked twice, or the engine is gone.
            () = end.notified() => {}
        }
        if let Some(model) = app.loaded() {
            model.service.stop();
        }
        let _ = timeout(LAST_WORDS, earlies.recv()).await;
    };
    // Whoever comes now is told that it is too late.
    tokio::select! {
        () = accept(None) => {}
        () = ended => {}
    }
}

/// One connection, from its first request to its last.
async fn connection(app: &App, socket: TcpStream, router: Router, mut drains: watch::Receiver<bool>) {
    let _ = socket.set_nodelay(true);
    app.connections.fetch_add(1, Ordering::Relaxed);
    let io = TokioIo::new(Stalling::new(socket, app.config.stall_time));
    // Who comes after the end has one question.
    let late = *drains.borrow();
    let connection = http1::Builder::new()
        .keep_alive(!late)
        .timer(TokioTimer::new())
        .header_read_timeout(app.config.header_time)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(io, TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        // What went wrong on a connection is its client's to know.
        _ = connection.as_mut() => true,
        _ = drains.wait_for(|&drains| drains), if !late => false,
    };
    if !ended {
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
    app.connections.fetch_sub(1, Ordering::Relaxed);
}
