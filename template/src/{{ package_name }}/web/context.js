// What goes along with a question: the page from which it is asked, its filters and parameters, the
// tables of its charts, and the other pages.
window.chatContext = (() => {
  const { texts, propsOf, fill } = window.chatDrawing;
  const MOST = 8; // values that are told of a control
  const LONGEST = 80; // characters of a title, a name or a value
  const WHOLE = 3000; // characters of all that the model is told
  const LINKS = 20; // other pages that the model is told
  const SHOWN = 120; // characters above the field; its title has the whole
  const PAUSE = 300; // milliseconds until the line above the field follows the page

  const shorten = (text, length) =>
    (text.length > length ? `${text.slice(0, length - 1)}…` : text).toWellFormed();
  const clean = (value) => {
    const text = typeof value === "object" ? JSON.stringify(value) : String(value);
    return shorten(text.slice(0, 10 * LONGEST).replace(/\s+/g, " ").trim(), LONGEST);
  };
  const isMissing = (value) => value === undefined || value === null || value === "";

  // A choice among options. Those of a cascader are a tree, and its values may be paths in it.
  const pathsIn = (options, branch = []) =>
    Array.isArray(options)
      ? options.map((leaf) => [...branch, leaf])
      : Object.entries(options).flatMap(([name, below]) => pathsIn(below, [...branch, name]));
  const keyOf = (value) => (Array.isArray(value) ? value.join(" > ") : value);
  const wordsFor = (value, label) => {
    const hasLabel = typeof label === "string" && label !== String(value);
    return clean(hasLabel ? `${label} (${value})` : keyOf(value));
  };
  const list = (values, options, conjunction) => {
    const first = values.slice(0, MOST);
    const known = Array.isArray(options) ? options.filter((one) => first.includes(one?.value)) : [];
    const labels = new Map(known.map(({ value, label }) => [value, label]));
    const words = first.map((value) => wordsFor(value, labels.get(value)));
    const count = values.length - first.length;
    if (count) words.push(fill(texts.more, { count }));
    return words.join(conjunction);
  };
  const tellChoice = ({ isFilter }, name, { value, multi, options, full_path: isPath }) => {
    const isMany = Array.isArray(value) && multi !== false;
    const isTree = !Array.isArray(options);
    const chosen = isMany ? value : isMissing(value) ? [] : [value];
    const all = isTree ? pathsIn(options).map((path) => (isPath ? path : path.at(-1))) : options;
    const left = all.length - chosen.length;
    if (isFilter && isMany && left <= 0) return "";
    if (!chosen.length) return isMany || isTree ? fill(texts.none, { name }) : "";
    if (!isFilter || left > MOST || chosen.length <= MOST) {
      const conjunction = isFilter ? texts.or : texts.and;
      return fill(texts.is, { name, value: list(chosen, options, conjunction) });
    }
    const keys = new Set(chosen.map(keyOf));
    const others = all.map((one) => one?.value ?? one).filter((one) => !keys.has(keyOf(one)));
    return fill(texts.isNot, { name, value: list(others, options, texts.or) });
  };

  // A range of numbers, dates or times. Without one of its ends, Vizro does not filter.
  const dayOf = (moment) => moment?.slice?.(0, 10) ?? moment;
  const endOf = (moment) => (moment?.length === 10 ? `${moment}T23:59:59` : moment);
  const tellRange = ({ isFilter, limits }, name, [first, last], props) => {
    const known = limits ?? [props.min ?? props.minDate, props.max ?? props.maxDate];
    const [min, max] = known.map(dayOf);
    if (isMissing(first) || isMissing(last)) return "";
    if (isFilter && first <= min && endOf(last) >= endOf(max)) return "";
    return fill(texts.between, { name, first: clean(first), last: clean(last) });
  };

  // What a control does: "" is nothing, and null that it cannot be read.
  const sentences = new WeakMap(); // by the properties, which Dash replaces when one changes
  const tell = (control) => {
    const props = propsOf(control.id);
    if (!props) return null;
    const isNew = !sentences.has(props);
    if (isNew) sentences.set(props, tellAnew(control, clean(control.name), props));
    return sentences.get(props);
  };
  const tellAnew = (control, name, props) => {
    const value = props.value ?? props.data;
    if (props.options) return tellChoice(control, name, props);
    if (Array.isArray(value)) return tellRange(control, name, value, props);
    return isMissing(value) ? "" : fill(texts.is, { name, value: clean(value) });
  };
  const tellPage = ({ title, controls }) => {
    const page = clean(title);
    const filters = controls.filter(({ isFilter }) => isFilter).map(tell);
    const parameters = controls.filter(({ isFilter }) => !isFilter).map(tell).filter(Boolean);
    const facts = filters.filter(Boolean);
    const shown = [...facts, ...parameters].join("; ");
    if (!filters.includes(null)) facts.push(facts.length ? texts.nothingElse : texts.unfiltered);
    const parts = [
      fill(texts.page, { page }),
      facts.length && fill(texts.filters, { facts: facts.join("; ") }),
      parameters.length && fill(texts.parameters, { facts: parameters.join("; ") }),
    ];
    return {
      whole: shorten(parts.filter(Boolean).join(" "), WHOLE),
      shown: shorten([fill(texts.askedFrom, { page }), shown].filter(Boolean).join(": "), SHOWN),
    };
  };

  // There is none where the owner has turned it off, or where no page is.
  const pages = () => propsOf("chat-pages")?.data ?? [];
  const linksBeside = (page) => {
    const others = pages().filter((other) => page && other !== page);
    return others.slice(0, LINKS).map(({ title, path }) => `[${clean(title)}](${path})`);
  };
  const show = ({ whole, shown }) => {
    const line = document.getElementById("chat-context");
    if (line.title === whole) return;
    line.title = whole;
    line.textContent = shown;
  };
  // The page in the document, or before it has been drawn, the one of the address.
  const pageNow = () =>
    pages().find(({ id }) => document.getElementById(id)) ??
    pages().find(({ path }) => path === location.pathname);
  // Returns the page, if there is one, and what it tells at this moment, which the line shows.
  const look = () => {
    const page = pageNow();
    const { whole, shown } = page ? tellPage(page) : { whole: "", shown: "" };
    show({ whole, shown });
    return { page, whole };
  };
  // Returns what goes along with a question, as AG-UI has it.
  const entries = () => {
    const { page, whole } = look();
    const told = [
      { description: texts.where, value: whole },
      { description: texts.tables, value: page?.tables },
      { description: texts.links, value: linksBeside(page).join(", ") },
    ];
    return told.filter(({ value }) => value);
  };
  // No event tells of all controls, so the line looks while it can be seen.
  setInterval(() => {
    if (texts.url && document.getElementById("chat-message")?.checkVisibility()) look();
  }, PAUSE);
  return { entries };
})();
