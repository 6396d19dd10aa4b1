// Check quota warnings periodically
const warnings = await fetch('/api/v1/quota/warnings', {
  headers: { 'X-API-Key': apiKey }
});

if (warnings.length > 0) {
  console.warn('Approaching quota limits:', warnings);
  // Notify admin, consider upgrade
}
