// What an answer has looked up: how it was computed, and charts and tables that can be taken along.
window.chatData = (() => {
  const { texts, show, propsOf, html, div, span, button, prepare } = window.chatDrawing;
  const { drawWhole, showList, refusalOf } = window.chatDrawing;
  const KEPT = 500; // characters of what a call has brought

  // What the model is told of an earlier answer's queries, so that it can go on from there.
  const noteOf = ({ kind, call: { sql, title, result } }) =>
    kind ? `[${texts[kind]}: ${title}; query: ${sql}]` : `[query: ${sql} -> ${result}]`;
  const withNotes = (text, { parts }) => {
    const notes = parts.filter(({ call }) => call?.sql).map(noteOf);
    return [text, ...notes].filter(Boolean).join("\n\n").toWellFormed();
  };
  // What stands in a saved conversation.
  const withQueries = (text, { parts }) => {
    const asked = parts.flatMap(({ call }) => (call?.sql ? [pretty(call.sql)] : []));
    const fenced = asked.map((sql) => `\`\`\`sql\n${sql}\n\`\`\``);
    return asked.length ? [text, `### ${texts.computed}`, ...fenced].join("\n\n") : text;
  };
  const removedOf = ({ kind }) => (kind === "table" ? texts.tableRemoved : texts.chartRemoved);

  // A query in one line is broken before each clause that stands outside of quotes and brackets.
  const QUOTED = /'[^']*'|"[^"]*"|--.*|\/\*.*?\*\//;
  const JOIN = /(?:(?:left|right|full|inner|cross|outer)\s+)*join/;
  const CLAUSE = /from|where|group\s+by|having|qualify|order\s+by|limit|union/;
  const BREAK = `(?<=\\S)\\s+(?:${CLAUSE.source}|${JOIN.source})\\b`;
  const TOKEN = new RegExp(`${QUOTED.source}|[()]|${BREAK}`, "gi");
  const pretty = (sql) => {
    if (sql.includes("\n")) return sql;
    let depth = 0;
    return sql.replace(TOKEN, (token) => {
      depth += { "(": 1, ")": -1 }[token] ?? 0;
      return depth === 0 && token.trim() !== token ? `\n${token.trim()}` : token;
    });
  };

  // Drawing. Buttons find their part by the attribute `data-part` around them.
  const copySql = (index) => button("copySql", "content_copy", index, texts.copySql);
  const head = (title, buttons) =>
    div("chat-shown-head hstack", [span("", title), div("hstack", buttons)]);
  // A chart's title stands above it, beside buttons that take the place of Plotly's.
  const drawInFrame = (component) => {
    const { props, ...drawn } = prepare(component);
    if (!props.figure) return { ...drawn, props };
    const { layout } = props.figure;
    Object.assign(layout, { title: "", margin: { ...layout.margin, t: 16 } });
    return { ...drawn, props: { ...props, config: { ...props.config, displayModeBar: false } } };
  };
  const drawShown = ({ kind, component, remark, call: { title } }, index, n) => {
    if (!kind) return null; // a query, which stands under "How this was computed"
    const buttons = [
      button("csv", "download", index, texts.csv, texts.csvTitle),
      kind === "chart" && component && button("png", "image", index, texts.png, texts.pngTitle),
      copySql(index),
    ];
    const drawn = component ? drawInFrame(component) : div("chat-remark", remark);
    const attributes = { "data-part": n, role: "figure", "aria-label": title };
    return div("chat-shown", [head(title, buttons), drawn], attributes);
  };
  const scrolled = (type, text) => html("Pre", `chat-${type}`, text, { tabIndex: 0 });
  const drawCall = ({ call: { sql, title, result } }, index, n) => {
    const asked = sql && scrolled("sql", pretty(sql));
    const drawn = [head(title || texts.query, [sql && copySql(index)]), asked];
    return div("chat-call", [...drawn, scrolled("result", result)], { "data-part": n });
  };
  const callsOf = ({ parts }, index) =>
    parts.map((part, n) => part.call && (() => drawCall(part, index, n))).filter(Boolean);
  const drawComputed = (exchange, index) => {
    const calls = callsOf(exchange, index);
    if (!calls.length) return null;
    const drawn = [html("Summary", "", texts.computed), drawWhole(`chat-call-${index}`, calls)];
    const attributes = { open: exchange.isExpanded, "data-index": index };
    return html("Details", "chat-computed", drawn, attributes);
  };
  const showComputed = (exchange, index) => {
    if (propsOf(`chat-call-${index}-0`)) showList(`chat-call-${index}`, callsOf(exchange, index));
    else show(`chat-computed-${index}`, drawComputed(exchange, index));
  };

  // What AG-UI's events of calls add to an answer. A step stays until the model writes.
  const partOf = ({ parts }, id) => parts.findLast(({ call }) => call?.id === id);
  const receive = (add, redraw) => ({
    TOOL_CALL_START: ({ parts }, { toolCallId: id }) =>
      parts.push({ call: { id, sql: "", title: "", result: "" } }),
    TOOL_CALL_ARGS: (exchange, { toolCallId, delta }) => {
      const { sql = "", title = "" } = JSON.parse(delta);
      Object.assign(partOf(exchange, toolCallId).call, { sql: `${sql}`, title: `${title}` });
    },
    TOOL_CALL_RESULT: (exchange, { toolCallId, content }) => {
      const rest = content.length > KEPT ? " …" : "";
      partOf(exchange, toolCallId).call.result = content.slice(0, KEPT) + rest;
      add(exchange, exchange.step);
    },
    ACTIVITY_SNAPSHOT: (exchange, { messageId, content }) => {
      const part = partOf(exchange, messageId);
      if (!part) return add(exchange, "", { component: content });
      part.kind = content.type === "Graph" ? "chart" : "table";
      part.component = content;
      redraw(exchange, exchange.parts.indexOf(part));
    },
  });

  // What can be done with what is shown.
  const fetchCsv = async (sql) => {
    const headers = { "Content-Type": "application/json" };
    const sent = { method: "POST", headers, body: JSON.stringify({ sql: sql.toWellFormed() }) };
    const response = await fetch(`${texts.url}/csv`, sent);
    const isCsv = response.headers.get("Content-Type")?.startsWith("text/csv");
    return response.ok && isCsv ? response.blob() : refusalOf(response, texts.refused);
  };
  const start = (exchangeAt, { say, hint, copy, download }) => {
    const callOf = (index, pressed) =>
      exchangeAt(index).parts[pressed.closest("[data-part]").dataset.part].call;
    // The event `toggle` comes later than the click, and not at all if the page is left by then.
    document.addEventListener("click", ({ target }) => {
      const computed = target.closest?.(".chat-computed > summary")?.parentElement;
      if (computed) exchangeAt(computed.dataset.index).isExpanded = !computed.open;
    });
    const csv = async (index, pressed) => {
      const { sql, title } = callOf(index, pressed);
      hint(texts.preparing);
      const reply = await fetchCsv(sql).catch(() => texts.unreachable);
      hint("");
      if (typeof reply === "string") return say(reply);
      download(reply, `${title}.csv`);
    };
    // Plotly comes with the first chart, and takes a while.
    const whenDrawn = async (chart) => {
      const graph = chart.querySelector(".js-plotly-plot");
      if (graph?.layout || !chart.isConnected) return graph;
      await new Promise(requestAnimationFrame);
      return whenDrawn(chart);
    };
    const png = async (index, pressed) => {
      const { title } = callOf(index, pressed);
      const graph = await whenDrawn(pressed.closest(".chat-shown"));
      if (!graph) return say(texts.noPicture);
      const color = getComputedStyle(document.body).backgroundColor;
      const pad = { l: 24, t: 24, b: 12 };
      const colors = { paper_bgcolor: color, plot_bgcolor: color };
      const layout = { ...graph.layout, ...colors, title: { text: title, automargin: true, pad } };
      const { clientWidth: width, clientHeight: height } = graph;
      const options = { format: "png", scale: 2, width, height, filename: title };
      const made = window.Plotly.downloadImage({ data: graph.data, layout }, options);
      made.catch(() => say(texts.noPicture));
    };
    return { csv, png, copySql: (index, pressed) => copy(callOf(index, pressed).sql, pressed) };
  };

  const forDrawing = { drawShown, drawComputed, showComputed };
  return { withNotes, withQueries, removedOf, ...forDrawing, receive, start };
})();
