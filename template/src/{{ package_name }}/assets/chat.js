// One click asks the server for the question's bubble and for the answer at the same time. A bubble
// that came after its answer would stand below it, so the answer is asked for after the bubble came.
(() => {
  const send = window.fetch;
  const asksForBubble = /"changedPropIds":\["chat-send-button\.n_clicks"\]/;
  let bubble = Promise.resolve();

  window.fetch = async (resource, options) => {
    if (asksForBubble.test(options?.body)) {
      const response = send(resource, options);
      bubble = response.then((answer) => answer.clone().text()).catch(() => {});
      return response;
    }
    await bubble;
    return send(resource, options);
  };
})();
