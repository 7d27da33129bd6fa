// What the user thinks of an answer: thumbs under it, and words, which POST /chat/feedback takes.
window.chatFeedback = (() => {
  const { texts, refusalOf, div, button, isAnswer } = window.chatDrawing;
  const LONGEST = 20_000; // characters of a text; the server takes no longer ones
  const EARLIER = 3; // exchanges that are sent with one
  const PATIENCE = 20_000; // milliseconds that the server has to keep a verdict

  // An exchange keeps what the server has kept of it; what is on its way stands here.
  const onItsWay = new Map();
  const givenTo = (exchange) => onItsWay.get(exchange) ?? exchange.feedback;
  const isPressed = (exchange, verdict) => givenTo(exchange)?.verdict === verdict;
  const drawThumb = (exchange, index, verdict) => {
    const thumb = button(verdict, `thumb_${verdict}`, index);
    thumb.props["aria-pressed"] = `${isPressed(exchange, verdict)}`;
    thumb.props["aria-describedby"] = "chat-rated";
    return thumb;
  };
  const drawThumbs = (exchange, index) =>
    exchange.parts.some(isAnswer)
      ? ["up", "down"].map((verdict) => drawThumb(exchange, index, verdict))
      : [];
  const drawPlace = (index) => div("w-100", [], { id: `chat-words-${index}` });

  // One request after the other, so that the last verdict is the last one kept.
  let last = Promise.resolve();
  const post = async (body) => {
    const headers = { "Content-Type": "application/json" };
    const signal = AbortSignal.timeout(PATIENCE);
    const sent = { method: "POST", headers, body: JSON.stringify(body), signal };
    const response = await fetch(`${texts.url}/feedback`, sent);
    return response.status === 204 ? "" : refusalOf(response, texts.feedbackLost);
  };
  const newId = () => {
    const bytes = [...crypto.getRandomValues(new Uint8Array(8))];
    return bytes.map((byte) => byte.toString(16).padStart(2, "0")).join("");
  };

  let page = null; // what chat.js hands over
  const thumb = (verdict, index) =>
    document.querySelector(`#chat [data-action="${verdict}"][data-index="${index}"]`);
  const showThumbs = (exchange) => {
    const index = page.exchanges().indexOf(exchange);
    for (const verdict of ["up", "down"]) {
      thumb(verdict, index)?.setAttribute("aria-pressed", isPressed(exchange, verdict));
    }
  };
  const cut = (text) => text.slice(0, LONGEST).toWellFormed();
  const turnOf = (exchange) => [exchange.message, page.answerOf(exchange)].map(cut);
  const bodyOf = (exchange, given) => {
    const earlier = page.exchanges().slice(0, page.exchanges().indexOf(exchange));
    const answered = earlier.filter(({ parts }) => parts.some(isAnswer)).slice(-EARLIER);
    const [question, answer] = turnOf(exchange);
    return { ...given, question, answer, before: answered.map(turnOf) };
  };
  // Returns whether the server has kept it.
  const send = async (exchange, verdict, words) => {
    exchange.feedback ??= { id: newId() };
    const given = { id: exchange.feedback.id, verdict, words };
    const body = bodyOf(exchange, given);
    onItsWay.set(exchange, given);
    showThumbs(exchange);
    last = last.then(() => post(body)).catch(() => texts.unreachable);
    const refusal = await last;
    if (!refusal) exchange.feedback = given;
    if (onItsWay.get(exchange) === given) onItsWay.delete(exchange);
    showThumbs(exchange);
    page.save();
    if (refusal) page.say(refusal);
    else page.hint(verdict === "none" ? texts.takenBack : texts.thanks);
    return !refusal;
  };

  // The field for words is not Dash's, which would empty it whenever the answer is drawn again.
  const iconButton = (action, symbol) => {
    const made = document.createElement("button");
    made.className = "chat-button material-symbols-outlined notranslate";
    made.textContent = symbol;
    made.title = made.ariaLabel = texts[action];
    made.dataset.action = action;
    return made;
  };
  const newField = () => {
    const field = document.createElement("div");
    const area = document.createElement("textarea");
    const [send, close] = [iconButton("sendWords", "send"), iconButton("closeWords", "close")];
    field.className = "chat-words hstack gap-1 border rounded-3";
    Object.assign(area, { rows: 1, maxLength: 2000, dir: "auto", placeholder: texts.words });
    area.ariaLabel = texts.words;
    area.addEventListener("keydown", (event) => {
      if (event.isComposing || event.keyCode === 229) return; // choosing a character
      if (event.key === "Escape") {
        event.preventDefault(); // a panel stays open
        close.click();
      }
      if (event.key !== "Enter" || event.shiftKey) return;
      event.preventDefault();
      send.click();
    });
    field.append(area, send, close);
    return field;
  };
  let open = null; // the field, and what it is for
  const close = () => {
    open?.field.remove();
    open = null;
  };
  // Puts the field back when the answer has been drawn again.
  const reopen = () => {
    if (open && page.exchanges()[open.index] !== open.exchange) close();
    const place = open && document.getElementById(`chat-words-${open.index}`);
    if (place && !place.contains(open.field)) place.append(open.field);
  };

  const press = (verdict) => (index) => {
    const exchange = page.exchanges()[index];
    close();
    if (isPressed(exchange, verdict)) return send(exchange, "none", "");
    open = { field: newField(), exchange, index, verdict };
    reopen();
    return send(exchange, verdict, "");
  };
  const closeWords = () => {
    const { index, verdict } = open;
    close();
    thumb(verdict, index)?.focus();
  };
  const sendWords = async () => {
    const { field, exchange, verdict } = open;
    const words = field.firstChild.value.trim().toWellFormed();
    const isKept = !words || (await send(exchange, verdict, words));
    if (isKept && open?.field === field) closeWords();
  };
  const start = (handed) => {
    page = handed;
    return { up: press("up"), down: press("down"), sendWords, closeWords };
  };

  return { drawThumbs, drawPlace, start, reopen };
})();
