async function makeRequest(url, options) {
  const response = await fetch(url, options);
  
  if (response.status === 429) {
    const resetTime = response.headers.get('X-RateLimit-Reset');
    const waitTime = resetTime - Date.now() / 1000;
    
    await new Promise(resolve => setTimeout(resolve, waitTime * 1000));
    return makeRequest(url, options); // Retry
  }
  
  return response;
}
