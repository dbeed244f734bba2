// Starts Swagger UI on the server's own document.
window.ui = SwaggerUIBundle({
  url: "/docs.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  // The badge would send the document's address to a validator on the internet.
  validatorUrl: null,
});
