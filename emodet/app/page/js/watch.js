/* An ordinary script, so that it also runs where modules do not: what goes wrong becomes a sentence on the page. */
(function () {
  "use strict";
  function tell(text) {
    function show() {
      var box = document.getElementById("problem");
      var loading = document.getElementById("loading");
      if (!box) return;
      box.firstElementChild.textContent = text;
      box.hidden = false;
      if (loading) loading.hidden = true;
    }
    if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", show);
    else show();
  }
  window.emodetTell = tell;
  if (!("noModule" in document.createElement("script")) || typeof WebAssembly !== "object") {
    tell("This browser is too old for this page. Use a current Firefox, Chrome, Edge or Safari.");
    return;
  }
  var general = "Something went wrong on this page. Reload it; if it happens again, use another browser.";
  window.addEventListener("error", function (event) {
    if (location.protocol === "file:") {
      tell("Opened as a file this page cannot load its parts. Serve its folder, for example with “python -m http.server”, and open that address.");
    } else if (event.target instanceof HTMLScriptElement) {
      tell("A part of this page could not be loaded. Check that its server runs, then reload the page.");
    } else if (!(event.target instanceof HTMLElement)) {
      tell(general);
    }
  }, true);
  window.addEventListener("unhandledrejection", function () { tell(general); });
})();
