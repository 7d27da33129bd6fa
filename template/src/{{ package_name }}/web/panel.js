// The panel over every page: open or closed, as wide as it was left; pages change without a reload.
window.chatPanel = (() => {
  const STEP = 24; // pixels that a key widens the panel by
  const screen = matchMedia("(width <= 768px)"); // where panel.css makes it the whole screen
  const page = document.documentElement; // React leaves its attributes alone
  const byId = (id) => document.getElementById(id);
  const isOpen = () => page.hasAttribute("data-chat-panel");
  const isModal = () => isOpen() && screen.matches;

  // The width is kept in the browser, whether it is open in the tab; either may be forbidden.
  const keep = (storage, name, value) => {
    try {
      window[storage].setItem(name, value);
    } catch {}
  };
  const kept = (storage, name) => {
    try {
      return window[storage].getItem(name);
    } catch {
      return null;
    }
  };
  const setWidth = (width) => page.style.setProperty("--chat-width", `${width}px`);
  if (Number(kept("localStorage", "chat width"))) setWidth(kept("localStorage", "chat width"));
  page.toggleAttribute("data-chat-panel", kept("sessionStorage", "chat panel") === "open");

  // Tells the parts of the page what has changed.
  const update = () => {
    const panel = byId("chat-panel");
    if (!panel) return;
    byId("chat-open").ariaExpanded = isOpen();
    if (isOpen()) byId("chat-width").ariaValueNow = panel.offsetWidth;
    for (const other of panel.parentElement.children)
      if (other !== panel) other.inert = isModal();
  };
  const show = (open) => {
    page.toggleAttribute("data-chat-panel", open);
    keep("sessionStorage", "chat panel", open ? "open" : "closed");
    update();
  };
  let before = null; // what had the focus when the panel was opened
  const open = () => {
    if (!isOpen()) before = document.activeElement;
    show(true);
    window.chatDrawing.preload();
    byId("chat-message").focus();
  };
  const close = () => {
    show(false);
    before?.focus({ preventScroll: true });
    if (document.activeElement !== before || before === document.body) byId("chat-open").focus();
  };
  const resize = (width) => {
    setWidth(width);
    update(); // panel.css has the limits
    keep("localStorage", "chat width", byId("chat-panel").offsetWidth);
  };

  // Vizro's logo and links in Markdown load the page anew, which would end an answer on its way.
  const follow = (event) => {
    const link = event.target.closest("a[href]");
    if (!link || event.defaultPrevented || link.hasAttribute("download")) return;
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    const isInAnswer = link.closest("#chat-conversation"); // where all links open a new tab
    if (link.target && !isInAnswer) return;
    const paths = JSON.parse(byId("chat-panel").dataset.paths);
    if (link.origin !== location.origin || !paths.includes(link.pathname)) return;
    if (link.hash && link.pathname === location.pathname) return;
    event.preventDefault();
    if (link.href !== location.href) history.pushState(null, "", link.href);
    dispatchEvent(new PopStateEvent("popstate")); // Dash shows the page
    if (isModal()) close();
  };
  document.addEventListener("click", (event) => {
    if (!byId("chat-panel")) return;
    if (event.target.closest("#chat-open")) open();
    else if (event.target.closest("#chat-close")) close();
    else follow(event);
  });

  document.addEventListener("keydown", (event) => {
    const { key, target } = event;
    if (!byId("chat-panel") || event.defaultPrevented || event.repeat || event.isComposing) return;
    const isInside = byId("chat-panel").contains(target);
    if (key === "/" && event.ctrlKey && !event.altKey && !event.metaKey) {
      event.preventDefault();
      if (isOpen() && isInside) close();
      else open();
    }
    if (key === "Escape" && (isInside || isModal())) close();
  });
  document.addEventListener("keydown", (event) => {
    if (event.target.id !== "chat-width") return;
    const now = byId("chat-panel").offsetWidth;
    const widths = { ArrowLeft: now + STEP, ArrowRight: now - STEP, Home: 0, End: 10_000 };
    if (!(event.key in widths)) return;
    event.preventDefault();
    resize(widths[event.key]);
  });
  document.addEventListener("pointerdown", ({ target, pointerId, button }) => {
    if (target.id !== "chat-width" || button) return;
    target.setPointerCapture(pointerId);
    target.onpointermove = ({ clientX }) => resize(page.clientWidth - clientX);
    target.onlostpointercapture = () => (target.onpointermove = null);
  });
  addEventListener("resize", update);
  // Called when the chat can be used.
  const start = () => {
    update();
    if (isOpen()) window.chatDrawing.preload();
  };
  return { start };
})();
