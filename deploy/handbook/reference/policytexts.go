package reference

const policyHead = `# Policy reference: contract, system, http, webhook, auth

Every field of every kind of document, as the program reads them; made by ` + "`make generate`" + `, do not edit. What policy is
and how it comes in force: [policy.md](policy.md). The examples together are one policy that passes ` + "`crossdock policy lint`" + `.

| type | how it is written |
|---|---|
| duration | ` + "`500ms`, `10s`, `5m`, `24h`, `3d`" + ` |
| size | ` + "`256MB`, `2GB`" + `, in powers of 1024 |
| date | ` + "`2027-06-30`" + ` |
| serial | a whole number that is not negative |
| expression | jq, such as ` + "`.orderId`" + `; in quotes where YAML would read it otherwise |
| .jq file | the path of a file in the policy's folder that holds an expression, from the top of the folder |
| secret | the reference of a secret, never the secret: ` + "`secret:NAME`, `file:NAME`, `env:NAME` or `cred:NAME`" + `; see [secrets.md](secrets.md) |
| URL | http or https, without a user or a password |
| path | below the ` + "`url`" + ` of the driver; it leads to no other host |

In the name of a field ` + "`[]` is an item of a list, and `NAME`" + ` a name that you choose. A field that is not known is an error.
`

var policySections = []section{
	{level: 2, title: "Every document", under: "Document", text: "A file with the ending `.yaml` or `.yml` holds one document or several, with `---` between them. Anchors, aliases, merges and " +
		"tags are not taken."},
	{level: 2, title: "Contract", under: "Contract", text: "Names an event, who may publish it, and its versions. An event's type is the contract's name, `.v` and the major version: `order.placed.v1`. " +
		"A version that is not a draft keeps its schema; a change is a new version. A schema is JSON Schema, draft 2020-12 if it does not say another, and whole in itself.",
		files: []string{"contract.yaml", "order.placed-1.1.0.json"}},
	{level: 2, title: "Site", under: "Site", text: "A place with an agent.", files: []string{"site.yaml"}},
	{level: 2, title: "System", under: "System", except: []string{"System.http", "System.webhook", "System.file"},
		text: "An application at a site. It has at most one driver, by which it is called: `http`, `webhook` or `file`; without one it only posts to its agent. " +
			"It never changes its site.", files: []string{"system-intake.yaml"}},
	{level: 3, title: "Driver http", under: "System.http", text: "Calls the system over HTTP.", files: []string{"system-http.yaml"}},
	{level: 3, title: "Ways to authenticate: http.auth", text: "At most one of `bearer`, `basic`, `oauth2` and `mtls`.", files: []string{"system-auth.yaml"}},
	{level: 3, title: "Driver webhook", under: "System.webhook", text: "Posts signed deliveries by the Standard Webhooks specification.", files: []string{"system-webhook.yaml"}},
	{level: 3, title: "Driver file", under: "System.file", text: "Exchanges files in a folder on the site server.", files: []string{"system-file.yaml"}},
	{level: 2, title: "Route", under: "Route", text: "Which events go to which systems. Conditions see the event as an object with the members of its envelope, `data`, and `region`, `site` and `system` of where it was " +
		"taken in; they give true or false.", files: []string{"route.yaml", "order-to-crm.jq"}},
	{level: 2, title: "Journey", under: "Journey", text: "The milestones of a business object. They are checked and kept with the policy; nothing is computed from them yet.", files: []string{"journey.yaml"}},
	{level: 2, title: "NumberRange", under: "NumberRange", text: "Serial numbers of which sites lease blocks, so that they have some while they are cut off. What makes the numbers, `from` and `hourly` never " +
		"change: some were given. Two ranges never make the same number.", files: []string{"number-range.yaml"}},
	{level: 2, title: "Plugin", under: "Plugin", text: "A carrier or a tax engine beside the agent of some sites. [The agent's plugins](../../agent/pluginhost/README.md) says how they run.", files: []string{"plugin.yaml"}},
}

// meaning is what the program cannot say of a field itself.
type meaning struct {
	text     string
	fallback string // where the default follows from something else
}

var meanings = map[string]meaning{
	"Document.apiVersion":           {text: "always `crossdock/v1`"},
	"Document.kind":                 {text: "one of the kinds below"},
	"Document.metadata":             {text: "what every document has"},
	"Document.metadata.name":        {text: "small letters, digits and `-`, at most 63; of a Contract with dots between words, at most 128. Unique within its kind"},
	"Document.metadata.labels":      {text: "for yourselves"},
	"Document.metadata.labels.NAME": {text: "any text"},
	"Document.spec":                 {text: "the fields of its kind, in the tables below"},

	"Contract.owner":              {text: "the team that answers for it"},
	"Contract.authority":          {text: "the name or the role of the systems that may publish it; `agent`: what agents tell of their calls to plugins"},
	"Contract.key":                {text: "over the event's data: a text or a number. Events with the same key are delivered in order. An event without one is refused, so the schema has to require it"},
	"Contract.compatibility":      {text: "held between versions in use of one major version: `backward`, the newer reads what the older allowed; `forward`, the other way round; `full`, both"},
	"Contract.latency":            {text: "how long an event may take from its occurrence to its delivery; it is stated only, nothing watches it yet"},
	"Contract.extensions":         {text: "the names below `extensions` of the data that regions may define; they are stated only"},
	"Contract.versions":           {text: "at least one"},
	"Contract.versions[].version": {text: "three numbers such as `1.0.0`"},
	"Contract.versions[].state":   {text: "`draft`: no event may use it yet; `active`; `deprecated`: in use until its sunset; `retired`: refused. An event that names no version is held to the newest active one of its major version"},
	"Contract.versions[].sunset":  {text: "when a deprecated version ends; senders are told"},
	"Contract.versions[].schema":  {text: "the path of a JSON Schema in the policy's folder, at most 256 KB"},

	"Site.region": {text: "the region that it belongs to, by which routes choose"},
	"Site.owner":  {text: "the team that answers for it"},
	"Site.tax":    {text: "plugins of kind `tax` that answer here: the first is asked, the next is its declared fallback"},

	"System.owner":                     {text: "the team that answers for it"},
	"System.site":                      {text: "the Site that it is attached to, for good"},
	"System.role":                      {text: "what contracts name as authority, such as `shop`, `erp`, `wms`"},
	"System.publishes":                 {text: "contracts whose events it brings in, by `intake`, `http.publish` or `file.publish`"},
	"System.replaces":                  {text: "the system whose place it takes: a move. Deliveries to it wait until the old one has nothing left"},
	"System.sandbox":                   {text: "it may take shadow deliveries, which change nothing that counts"},
	"System.intake":                    {text: "it may post to its agent"},
	"System.intake.token":              {text: "what it sends as its bearer token"},
	"System.intake.rate":               {text: "events a second that its agent takes from it; more of them wait, and are answered 429 when they cannot"},
	"System.intake.burst":              {text: "events at once before the rate counts", fallback: "twice the rate"},
	"System.delivery":                  {text: "limits for what is delivered to it"},
	"System.delivery.concurrency":      {text: "requests at a time, of different keys"},
	"System.delivery.batch":            {text: "events in one request; above 1 every request is a batch. Only `http.deliver` with the envelope `structured`"},
	"System.delivery.rate":             {text: "events a second; 0 is without limit"},
	"System.delivery.timeout":          {text: "of one request"},
	"System.delivery.breaker":          {text: "when to leave a system alone that fails"},
	"System.delivery.breaker.failures": {text: "so many in a row"},
	"System.delivery.breaker.pause":    {text: "before it is tried again"},
	"System.http":                      {text: "the driver http, below"},
	"System.webhook":                   {text: "the driver webhook, below"},
	"System.file":                      {text: "the driver file, below"},

	"System.http.url":                      {text: "the base: every path below is put behind it"},
	"System.http.ca":                       {text: "PEM certificates of the authorities that it is trusted by", fallback: "those of the machine"},
	"System.http.hosts":                    {text: "hosts with a private or loopback address that may be called, each by its name or address, with a port or without; all others of that kind are refused"},
	"System.http.auth":                     {text: "how calls authenticate: at most one of the four"},
	"System.http.auth.bearer":              {text: "a token, sent as `Authorization: Bearer`"},
	"System.http.auth.basic":               {text: "HTTP Basic"},
	"System.http.auth.basic.user":          {text: "the user's name"},
	"System.http.auth.basic.password":      {text: "the user's password"},
	"System.http.auth.oauth2":              {text: "OAuth 2.0 with the grant `client_credentials`"},
	"System.http.auth.oauth2.tokenUrl":     {text: "where tokens are got"},
	"System.http.auth.oauth2.clientId":     {text: "as the authorization server knows it"},
	"System.http.auth.oauth2.clientSecret": {text: "its secret"},
	"System.http.auth.oauth2.scopes":       {text: "that are asked for"},
	"System.http.auth.mtls":                {text: "a client certificate"},
	"System.http.auth.mtls.certificate":    {text: "PEM, with its chain"},
	"System.http.auth.mtls.key":            {text: "PEM"},
	"System.http.deliver":                  {text: "how events are delivered; without it the system is no destination"},
	"System.http.deliver.method":           {text: "of the request"},
	"System.http.deliver.path":             {text: "such as `/events`"},
	"System.http.deliver.envelope":         {text: "`structured`: a CloudEvent as one JSON object; `binary`: its attributes in `ce-` headers, the data as the body; `data`: the data alone"},
	"System.http.query":                    {text: "calls that ask and change nothing, by your names; nothing makes them yet"},
	"System.http.query.NAME.method":        {text: "of the request"},
	"System.http.query.NAME.path":          {text: "`{name}` stands for an argument"},
	"System.http.command":                  {text: "calls with an effect, by your names; nothing makes them yet"},
	"System.http.command.NAME.method":      {text: "of the request"},
	"System.http.command.NAME.path":        {text: "`{name}` stands for an argument"},
	"System.http.publish":                  {text: "polls the system for events"},
	"System.http.publish.path":             {text: "GET: a JSON array of CloudEvents, the oldest first; a repeat does no harm"},
	"System.http.publish.confirm":          {text: "POST `{\"ids\": [...]}` once they are safe; without it the system has to know itself what was fetched"},
	"System.http.publish.interval":         {text: "between polls"},
	"System.http.snapshot":                 {text: "pages of all that the system has, by contract; nothing reads them yet"},
	"System.http.snapshot.NAME.path":       {text: "GET: the first page"},
	"System.http.snapshot.NAME.items":      {text: "the records, over the answer", fallback: "`.`"},
	"System.http.snapshot.NAME.next":       {text: "path or URL of the next page, or null, over the answer", fallback: "`null`"},

	"System.webhook.url":    {text: "where deliveries are posted"},
	"System.webhook.secret": {text: "a key that begins with `whsec_`, by which they are signed"},
	"System.webhook.hosts":  {text: "as `http.hosts`"},
	"System.webhook.ca":     {text: "as `http.ca`", fallback: "those of the machine"},

	"System.file.directory":        {text: "absolute, on the site server; everything stays below it"},
	"System.file.publish":          {text: "picks files up whose records become events"},
	"System.file.publish.pattern":  {text: "names of files, such as `*.csv`; no folders"},
	"System.file.publish.format":   {text: "`json`: one record or an array of them; `jsonl`: one on each line; `csv`: the first line names the fields, each other one is a record of texts"},
	"System.file.publish.type":     {text: "of the events, such as `order.placed.v1`; the system publishes its contract"},
	"System.file.publish.map":      {text: "record to the event's data", fallback: "`.`"},
	"System.file.publish.interval": {text: "between looks into the folder"},
	"System.file.deliver":          {text: "writes each delivery as a file; `deliver: {}` is enough"},
	"System.file.deliver.folder":   {text: "below `directory`", fallback: "`out`"},

	"Route.owner":          {text: "the team that answers for it"},
	"Route.from":           {text: "the events"},
	"Route.from.type":      {text: "such as `order.placed.v1`"},
	"Route.from.when":      {text: "a condition that they have to meet"},
	"Route.to":             {text: "at least one system"},
	"Route.to[].system":    {text: "a System with `http.deliver`, `webhook` or `file.deliver`"},
	"Route.to[].when":      {text: "a condition for this system"},
	"Route.to[].map":       {text: "the event's data to what is delivered", fallback: "as it is"},
	"Route.to[].shadow":    {text: "a trial beside the live delivery, which counts; the system has `sandbox: true`"},
	"Route.retry":          {text: "how often a delivery is tried"},
	"Route.retry.initial":  {text: "before the second attempt; then longer each time"},
	"Route.retry.max":      {text: "at most between two attempts", fallback: "`5m`, or `initial` if that is longer"},
	"Route.retry.attempts": {text: "in all"},
	"Route.onExhausted":    {text: "after the last attempt the delivery is a dead letter. `park`: later events of its key wait behind it; `skip`: they go on"},
	"Route.answers":        {text: "the event type that these events answer: taking an answer to the system that publishes the question is then no circle"},

	"Journey.owner":               {text: "the team that answers for it"},
	"Journey.object":              {text: "what goes on the journey, such as `order`; its key is that of the events"},
	"Journey.milestones":          {text: "at least one"},
	"Journey.milestones[].name":   {text: "unique within the journey"},
	"Journey.milestones[].type":   {text: "the event type that reaches it"},
	"Journey.milestones[].when":   {text: "a condition, as in a Route"},
	"Journey.milestones[].after":  {text: "another milestone of the journey"},
	"Journey.milestones[].within": {text: "how long after that; it needs `after`"},

	"NumberRange.owner":         {text: "the team that answers for it"},
	"NumberRange.format":        {text: "`sscc`: GS1 serial shipping container code, 18 digits; `s10`: postal item such as RR123456785GB; `plain`: a prefix and a serial"},
	"NumberRange.companyPrefix": {text: "with `sscc` only: the GS1 company prefix, 4 to 12 digits, in quotes"},
	"NumberRange.extension":     {text: "with `sscc` only: one digit, in quotes"},
	"NumberRange.service":       {text: "with `s10` only: the service indicator, two capital letters"},
	"NumberRange.country":       {text: "with `s10` only: the country of the post, two capital letters"},
	"NumberRange.width":         {text: "with `plain` only: digits of the serial"},
	"NumberRange.check":         {text: "with `plain` only: `mod10` adds a check digit"},
	"NumberRange.prefix":        {text: "with `plain` only: letters, digits and `-`, at most 20; digits alone with a check digit"},
	"NumberRange.from":          {text: "the first serial"},
	"NumberRange.to":            {text: "the last serial"},
	"NumberRange.sites":         {text: "that may take from it, at least one"},
	"NumberRange.block":         {text: "numbers that a site leases at a time"},
	"NumberRange.low":           {text: "a site with fewer left leases more, and raises an alarm where it cannot; at most 20 blocks", fallback: "half a block"},
	"NumberRange.hourly":        {text: "numbers that all sites together lease in an hour, at least a block; it never changes", fallback: "50 blocks"},

	"Plugin.owner":         {text: "the team that answers for it"},
	"Plugin.kind":          {text: "what it serves"},
	"Plugin.sites":         {text: "where it runs, at least one"},
	"Plugin.systems":       {text: "that may call it, at its sites", fallback: "all of a site"},
	"Plugin.program":       {text: "the name of a file in the agent's plugins directory; on Windows with `.exe`, which is not written here"},
	"Plugin.sha256":        {text: "of the program, for each system and architecture; what has none is not run there"},
	"Plugin.sha256.NAME":   {text: "NAME is `linux/amd64`, `linux/arm64`, `windows/amd64`, `windows/arm64`, `darwin/amd64` or `darwin/arm64`; the 64 hexadecimal digits that `crossdock plugin verify` prints"},
	"Plugin.callTimeout":   {text: "of one call", fallback: "`15s`"},
	"Plugin.memory":        {text: "it is ended when it takes more", fallback: "`512MB`"},
	"Plugin.settings":      {text: "what the program is told, at most 100; `crossdock plugin verify` lists what it knows"},
	"Plugin.settings.NAME": {text: "small letters, digits, `-`, `_` and `.`; a text of at most 4 KB"},
	"Plugin.secrets":       {text: "settings whose values stay at the site"},
	"Plugin.secrets.NAME":  {text: "as in `settings`"},
}
