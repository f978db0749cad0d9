/**
 * Calls `nudge` when there is reason to try at once: the network is back (`"online"`), or the page is looked at again
 * (`"visible"`). Returns a function that ends it. `page` is a browser's `window`; where it has no such events, nothing
 * happens.
 */
export function watchPage(page, nudge) {
  const online = () => nudge("online");
  const visible = () => { if (page.document.visibilityState === "visible") nudge("visible"); };
  page.addEventListener?.("online", online);
  page.document?.addEventListener?.("visibilitychange", visible);
  return () => {
    page.removeEventListener?.("online", online);
    page.document?.removeEventListener?.("visibilitychange", visible);
  };
}
