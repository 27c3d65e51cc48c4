export default {
  root: import.meta.dirname,
  define: { 'process.env.NODE_ENV': '"production"', global: 'globalThis' },
  build: { outDir: 'out', emptyOutDir: true, sourcemap: false, minify: false, target: 'es2022' },
  esbuild: { jsx: 'automatic' },
  logLevel: 'warn',
};
