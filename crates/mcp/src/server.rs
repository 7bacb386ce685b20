//! The protocol's side: which tool is called with what, and how long answers take.

mod calls;
mod find;

use crate::{
    desk::{Desk, End, Phase, Refused},
    text, tools,
};
use forerunner_core::ProposalRequest;
use forerunner_runtime::store::{Store, StoreError};
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation,
        ListToolsResult, PaginatedRequestParams, ProgressNotificationParam, ServerCapabilities,
        ServerConfig,
    },
    service::RequestContext,
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

/// Most characters of a client's name.
const MAX_NAME: usize = 60;
/// How often a client that waits hears that it still does.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// One client's connection to a run.
pub struct Server {
    desk: Arc<Desk>,
    /// Who the client is, whatever it says of itself.
    client: Option<String>,
}

/// With a request over HTTP: whose token it came with.
#[derive(Clone)]
pub(crate) struct ClientName(pub(crate) String);

/// A call that comes to nothing, in words for the client.
#[derive(Debug)]
pub(crate) struct Complaint(String);

impl Complaint {
    pub(crate) fn new(message: impl fmt::Display) -> Self {
        Self(message.to_string())
    }
}

impl From<String> for Complaint {
    fn from(message: String) -> Self {
        Self(message)
    }
}

impl From<StoreError> for Complaint {
    fn from(error: StoreError) -> Self {
        Self::new(format_args!("the run cannot be read: {error}"))
    }
}

type Answer = Result<String, Complaint>;

impl Server {
    /// A connection to the run at `desk`. `client` is the name that quotas and ideas go by; left
    /// out, it is what the client calls itself.
    pub fn new(desk: Arc<Desk>, client: Option<String>) -> Self {
        Self { desk, client }
    }

    fn store(&self) -> Result<Store, Complaint> {
        Ok(Store::read(self.desk.folder())?)
    }

    fn client(&self, context: &RequestContext<RoleServer>) -> String {
        let known = || {
            let request = context.extensions.get::<http::request::Parts>()?;
            Some(request.extensions.get::<ClientName>()?.0.clone())
        };
        let said = || context.client_info().map(|client| client.name);
        let name = self.client.clone().or_else(known).or_else(said).unwrap_or_default();
        let name = text::line(&name, MAX_NAME);
        if name.is_empty() { "unnamed".to_owned() } else { name }
    }

    /// The proposal that this client may fill: the one it knows, else the oldest. Waits for one, and
    /// answers it also when somebody else who waited in line has filled it already: what is made of
    /// its parent is as welcome to the next.
    async fn offer(&self, call: &Called<'_>) -> Result<Arc<ProposalRequest>, Complaint> {
        let client = self.client(call.context);
        let mut changes = self.desk.changes();
        let (before, _) = self.desk.opened();
        loop {
            changes.mark_unchanged();
            let open = self.desk.open();
            let shown = self.desk.shown(&client);
            let known = open.iter().find(|offer| Some(&offer.parent.id) == shown.as_ref());
            if let Some(offer) = known.or(open.first()) {
                return Ok(Arc::clone(offer));
            }
            if let (opened, Some(latest)) = self.desk.opened()
                && opened > before
            {
                return Ok(latest);
            }
            let waiting_for = match self.desk.phase() {
                Phase::Starting(start) => start.words(),
                Phase::Searching => "all slots are busy",
                Phase::Confirming | Phase::Over(_) => return Err(self.over()),
            };
            // The desk lives as long as its servers do.
            drop(call.wait(changes.changed(), &|| waiting_for.to_owned()).await);
        }
    }

    /// Waits until the search begins, or is over: before that it is not known what the client used
    /// of its quotas in earlier sessions.
    async fn begun(&self, call: &Called<'_>) {
        let mut changes = self.desk.changes();
        loop {
            changes.mark_unchanged();
            let Phase::Starting(start) = self.desk.phase() else { return };
            // The desk lives as long as its servers do.
            drop(call.wait(changes.changed(), &|| start.words().to_owned()).await);
        }
    }

    /// Why nothing more is taken, with the result where there is one.
    fn over(&self) -> Complaint {
        let phase = self.desk.phase();
        let text = match &phase {
            Phase::Over(end) => self.ended(end),
            _ => "the budget is used up, and the best programs are being measured again on fresh \
                  seeds\nhint: `status` has the result when they are"
                .to_owned(),
        };
        Complaint(text)
    }

    fn ended(&self, end: &End) -> String {
        let objectives = self.store().ok().and_then(|store| {
            let account = forerunner_runtime::lineage::account(&store).ok()?;
            account.objectives
        });
        match (&end.summary, objectives) {
            (Some(summary), Some(objectives)) => {
                let head = if end.is_complete() {
                    "the budget is used up; this is the result"
                } else {
                    "the run was stopped before its budget was used up, and can be resumed; so far"
                };
                let summary = forerunner_report::summary(summary, &objectives);
                let summary = summary.replace("forerunner run --resume", "forerunner mcp --resume");
                format!("{head}:\n\n{summary}")
            }
            _ => {
                let error = end.error.as_deref().unwrap_or("it left no result");
                format!(
                    "the run ended without a result\nhint: what was measured is kept; tell your \
                     operator\n{}",
                    text::data("why it ended", error, 2_000)
                )
            }
        }
    }

    fn refused(&self, refused: Refused) -> Complaint {
        match refused {
            Refused::Over => self.over(),
            Refused::Pending { limit } => Complaint(format!(
                "{limit} of your calls wait already, and no client may have more\nhint: wait for \
                 their answers"
            )),
            Refused::Quota { what, limit } => Complaint(format!(
                "your quota of {limit} {what} in this run is used up\nhint: `status`, `history`, \
                 `program` and `telemetry` still answer; the operator can resume the run with a \
                 larger `--{what}`"
            )),
        }
    }
}

/// One call: who waits for it, and since when.
struct Called<'a> {
    context: &'a RequestContext<RoleServer>,
    since: Instant,
}

impl Called<'_> {
    /// Waits for `event`, and tells the client every few seconds what for.
    async fn wait<T>(
        &self,
        event: impl Future<Output = T>,
        about: &(dyn Fn() -> String + Sync),
    ) -> T {
        let mut event = std::pin::pin!(event);
        loop {
            tokio::select! {
                done = &mut event => return done,
                () = tokio::time::sleep(SIGN_OF_LIFE) => self.notify(about()).await,
            }
        }
    }

    /// Tells the client how far its call is, when it wants to know. What counts up is the seconds.
    async fn notify(&self, message: String) {
        let Some(token) = self.context.meta.get_progress_token() else { return };
        let seconds = self.since.elapsed().as_secs_f64();
        let message = text::line(&message, 200);
        let note = ProgressNotificationParam::new(token, seconds).with_message(message);
        // A client that has gone learns of the result when it comes back.
        drop(self.context.peer.notify_progress(note).await);
    }
}

/// Reads a tool's arguments; what is wrong with them is named.
fn read<T: DeserializeOwned>(tool: &str, arguments: Value) -> Result<T, Complaint> {
    if let (Some(tool), Some(given)) =
        (tools::all().into_iter().find(|known| known.name == tool), arguments.as_object())
    {
        let known = tools::arguments(&tool);
        if let Some(unknown) = given.keys().find(|name| !known.contains(&name.as_str())) {
            let unknown = text::line(unknown, 60);
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(Complaint(format!(
                "`{}` has no argument `{unknown}` (known: {known})\nhint: leave it out, or spell \
                 it like one of these",
                tool.name
            )));
        }
    }
    serde_path_to_error::deserialize(arguments).map_err(|error| {
        let place = match error.path().to_string() {
            whole if whole == "." => String::new(),
            path => format!("`{}`: ", text::line(&path, 100)),
        };
        let what = text::line(&error.inner().to_string(), 300);
        Complaint(format!("{place}{what}\nhint: the schema of `{tool}` says what it takes"))
    })
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let this = Implementation::new("forerunner", env!("CARGO_PKG_VERSION"))
            .with_title("Forerunner: a search for better programs");
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(this)
            .with_instructions(tools::INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(tools::all()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let call = Called { context: &context, since: Instant::now() };
        let arguments = Value::Object(request.arguments.unwrap_or_default());
        let name = &*request.name;
        let answer = match name {
            "brief" => match read(name, arguments) {
                Ok(input) => self.brief(&call, input).await,
                Err(complaint) => Err(complaint),
            },
            "parent" => match read(name, arguments) {
                Ok(input) => self.parent(&call, input).await,
                Err(complaint) => Err(complaint),
            },
            "check" => match read(name, arguments) {
                Ok(input) => self.check(&call, input).await,
                Err(complaint) => Err(complaint),
            },
            "submit" => match read(name, arguments) {
                Ok(input) => self.submit(&call, input).await,
                Err(complaint) => Err(complaint),
            },
            "program" => read(name, arguments).and_then(|input| self.program(&call, &input)),
            "telemetry" => read(name, arguments).and_then(|input| self.telemetry(&call, &input)),
            "history" => read(name, arguments).and_then(|input| self.history(&input)),
            "status" => read(name, arguments).and_then(|input| self.status(&call, input)),
            unknown => {
                let known: Vec<_> = tools::all().into_iter().map(|tool| tool.name).collect();
                Err(Complaint(format!(
                    "there is no tool `{}` (known: {})\nhint: use one of these",
                    text::line(unknown, 60),
                    known.join(", ")
                )))
            }
        };
        let result = match answer {
            Ok(text) => CallToolResult::success(vec![ContentBlock::text(text)]),
            Err(Complaint(text)) => CallToolResult::error(vec![ContentBlock::text(text)]),
        };
        Ok(result.into())
    }
}
