# Probe of fairness: pretrain a small encoder by MLM on the dumped corpus, then compare four ways of fine-tuning.
import json, sys, time, random, glob, os, math
import torch, torch.nn as nn, torch.nn.functional as F
import numpy as np
D=sys.argv[1]; STEPS=int(sys.argv[2]); FT=int(sys.argv[3]); TASKS=sys.argv[4].split(',') if len(sys.argv)>4 else 'cola sst2 mrpc qqp stsb mnli qnli rte wnli'.split()
WU=int(os.environ.get('WU','500'))
PLR=float(sys.argv[5]) if len(sys.argv)>5 else 1e-3
dev='cuda'; torch.manual_seed(0); random.seed(0); np.random.seed(0)
V=json.load(open(D+'/tokenizer.json'))['model']['vocab']; N=len(V); MASK=V['<mask>']
print('vocab',N)
def enc(a,b,L=48):
    ids=[0]+[V[w] for w in a.split()]+[2]
    if b: ids+=[2]+[V[w] for w in b.split()]+[2]
    return ids[:L]
class Lin(nn.Linear):
    r=0
    def lora(s,r,al):
        s.r=r; s.A=nn.Parameter(torch.randn(r,s.in_features,device=dev)/math.sqrt(s.in_features)); s.B=nn.Parameter(torch.zeros(s.out_features,r,device=dev)); s.sc=al/r
    def forward(s,x):
        y=F.linear(x,s.weight,s.bias)
        if s.r: y=y+(x@s.A.t()@s.B.t())*s.sc
        return y
class Layer(nn.Module):
    def __init__(s,d=128,h=4,f=512):
        super().__init__(); s.h=h; s.q=Lin(d,d); s.k=Lin(d,d); s.v=Lin(d,d); s.o=Lin(d,d); s.n1=nn.LayerNorm(d); s.n2=nn.LayerNorm(d); s.f1=nn.Linear(d,f); s.f2=nn.Linear(f,d)
    def forward(s,x,m,p):
        B,T,d=x.shape; sp=lambda t:t.view(B,T,s.h,-1).transpose(1,2)
        a=F.scaled_dot_product_attention(sp(s.q(x)),sp(s.k(x)),sp(s.v(x)),attn_mask=m)
        x=s.n1(x+F.dropout(s.o(a.transpose(1,2).reshape(B,T,d)),p,s.training))
        return s.n2(x+F.dropout(s.f2(F.gelu(s.f1(x))),p,s.training))
class Enc(nn.Module):
    def __init__(s,d=128,L=4):
        super().__init__(); s.e=nn.Embedding(N,d); s.p=nn.Embedding(64,d); s.n=nn.LayerNorm(d); s.ls=nn.ModuleList([Layer() for _ in range(L)])
        s.hd=nn.Linear(d,d); s.hn=nn.LayerNorm(d); s.hb=nn.Parameter(torch.zeros(N)); s.un=nn.Parameter(torch.randn(N,d)*0.02)
        for m in s.modules():
            if isinstance(m,(nn.Linear,nn.Embedding)): nn.init.normal_(m.weight,0,float(os.environ.get('INIT','0.088')) if isinstance(m,nn.Linear) else float(os.environ.get('EINIT','0.02')))
            if isinstance(m,nn.Linear): nn.init.zeros_(m.bias)
    def forward(s,ids,p=0.1):
        m=(ids!=1)[:,None,None,:]
        x=s.n(s.e(ids)+s.p.weight[2:2+ids.shape[1]]); x=F.dropout(x,p,s.training)
        for l in s.ls: x=l(x,m,p)
        return x
    def mlm(s,h): return F.linear((h if os.environ.get('PLAIN') else s.hn(F.gelu(s.hd(h)))),s.un if os.environ.get('UNTIED') else s.e.weight,s.hb)
def pad(rows):
    T=max(map(len,rows)); a=torch.full((len(rows),T),1); 
    for i,r in enumerate(rows): a[i,:len(r)]=torch.tensor(r)
    return a
import numpy as np
def zero_shot():
    net.eval(); res=[]
    cfg={'mrpc':['maybe','yes'],'qqp':['maybe','yes'],'mnli':['yes','maybe','no'],'qnli':['yes','maybe'],'rte':['yes','maybe'],'wnli':['no','yes'],'stsb':['maybe','partly','yes']}
    for t,ms in cfg.items():
        R=[];Y=[]
        for l in open(f'{D}/{t}-{"dev_matched" if t=="mnli" else "dev"}.tsv'):
            y,a,b=l.rstrip('\n').split('\t'); R.append(enc(a,'<mask> , '+b)); Y.append(float(y))
        ids=pad(R).to(dev); Y=np.array(Y)
        with torch.no_grad(): h=net(ids,0.)
        pos=(ids==MASK).float().argmax(1); lo=net.mlm(h[torch.arange(len(R)),pos])[:,[V[m] for m in ms]].softmax(-1).cpu().detach().numpy()
        if t=='stsb': res.append(f'stsb r={np.corrcoef(lo@np.arange(3),Y)[0,1]:.2f}')
        else: res.append(f'{t} {(lo.argmax(1)==Y).mean()*100:.1f}')
    R=[];Y=[]
    for l in open(f'{D}/sst2-dev.tsv'):
        y,a,b=l.rstrip('\n').split('\t'); R.append(enc(a+' everyone <mask> .','')); Y.append(float(y))
    ids=pad(R).to(dev)
    with torch.no_grad(): h=net(ids,0.)
    pos=(ids==MASK).float().argmax(1); lo=net.mlm(h[torch.arange(len(R)),pos])[:,[V['complained'],V['smiled']]]
    res.append(f"sst2 {(lo.argmax(1).cpu().numpy()==np.array(Y)).mean()*100:.1f}")
    net.train(); return ' '.join(res)
docs=[]
for l in open(D+'/corpus.tsv'):
    a,b=l.rstrip('\n').split('\t')
    fl=os.environ.get('FILTER')
    if fl=='outcome' and not ({'smiled','grinned','glad','pleased','complained','frowned','sorry','upset'}&set(a.split())): continue
    if fl=='pair' and not b: continue
    docs.append(enc(a,b))
print('docs',len(docs),'mean len',np.mean([len(d) for d in docs]))
net=Enc().to(dev); LOAD=os.environ.get('LOAD'); print('params',sum(p.numel() for p in net.parameters()))
opt=torch.optim.AdamW(net.parameters(),lr=PLR,betas=(0.9,float(os.environ.get('B2','0.98'))),weight_decay=0.01)
full=pad(docs).to(dev); t0=time.time(); perm=torch.randperm(len(docs),device=dev); B=int(os.environ.get('B','64'))
SAL=torch.zeros(N,dtype=torch.bool,device=dev); SAL[[V[w] for w in 'yes no maybe partly smiled grinned glad pleased complained frowned sorry upset he she it'.split()]]=True
net.train()
for st in range(STEPS):
    for g in opt.param_groups: g['lr']=PLR*min((st+1)/WU,(STEPS-st)/max(1,STEPS-WU))
    i=(st*B)%(len(docs)-B); ids=full[perm[i:i+B]]
    ids=ids[:,:int((ids!=1).sum(1).max())]
    cand=(ids>3); r=torch.rand(ids.shape,device=dev); r[~cand]=2
    seg=((ids==2).cumsum(1)>=2)&cand; pairrow=seg.any(1,keepdim=True); sal=SAL[ids]&(seg|~pairrow); hassal=sal.any(1,keepdim=True)
    base=torch.where(pairrow,torch.where(seg,torch.tensor(float(os.environ.get('PB','.2')),device=dev),torch.tensor(0.0,device=dev)),torch.where(hassal,torch.tensor(0.0,device=dev),torch.tensor(.15,device=dev)))
    tgt=r<torch.where(sal,torch.tensor(.5,device=dev),base)
    x=ids.clone(); u=torch.rand(ids.shape,device=dev); x[tgt&(u<.8)]=MASK; rr=tgt&(u>=.8)&(u<.9); x[rr]=torch.randint(4,N-1,x.shape,device=dev)[rr]
    h=net(x,float(os.environ.get('DROP','0')))
    loss=F.cross_entropy(net.mlm(h[tgt]),ids[tgt]); opt.zero_grad(); loss.backward(); nn.utils.clip_grad_norm_(net.parameters(),float(os.environ.get('CLIP','1'))); opt.step()
    with torch.no_grad():
        POS=torch.tensor([V[w] for w in 'smiled grinned glad pleased'.split()],device=dev); NEG=torch.tensor([V[w] for w in 'complained frowned sorry upset'.split()],device=dev)
        t=ids[tgt]; lo=net.mlm(h[tgt]); s_=torch.isin(t,torch.cat([POS,NEG])); ok=(lo[s_][:,POS].logsumexp(1)>lo[s_][:,NEG].logsumexp(1))==torch.isin(t[s_],POS)
        A=globals().setdefault('ACC',[]); A.append(ok.float().mean().item())
        if st%200==199: print(st,'outcome acc',round(float(np.nanmean(A[-200:])),3),'ntgt',int(s_.sum()),flush=True)
    if st%1000==0 or st==STEPS-1: print(st,round(loss.item(),3),round(time.time()-t0,1),flush=True)
    if (st+1)%(STEPS//6)==0: print('  zero-shot',zero_shot(),flush=True)
if LOAD: net.load_state_dict(torch.load(LOAD)); print(zero_shot())
state={k:v.clone() for k,v in net.state_dict().items()}
torch.save(state,(os.environ.get('OUT') or '/tmp')+'/net%s.pt'%os.environ.get('TAG',''))
def load(t,s): 
    R=[]
    for l in open(f'{D}/{t}-{s}.tsv'):
        y,a,b=l.rstrip('\n').split('\t'); R.append((enc(a,b),float(y)))
    return pad([r[0] for r in R]).to(dev),torch.tensor([r[1] for r in R],device=dev)
def metric(t,p,y):
    if t=='stsb': return float(np.corrcoef(p,y)[0,1])
    if t=='cola':
        tp=((p==1)&(y==1)).sum();tn=((p==0)&(y==0)).sum();fp=((p==1)&(y==0)).sum();fn=((p==0)&(y==1)).sum(); d=float(tp+fp)*float(tp+fn)*float(tn+fp)*float(tn+fn); return 0. if d==0 else float((tp*tn-fp*fn)/math.sqrt(d))
    if t in('mrpc','qqp'):
        tp=((p==1)&(y==1)).sum(); return float(2*tp/max(1,2*tp+((p==1)&(y==0)).sum()+((p==0)&(y==1)).sum()))
    return float((p==y).mean())
def tune(t,mode,lr,seed=0):
    torch.manual_seed(seed); k=1 if t=='stsb' else 3 if t=='mnli' else 2
    n=Enc().to(dev)
    if mode!='scratch': n.load_state_dict(state)
    if mode in('head','lora'):
        for p in n.parameters(): p.requires_grad_(False)
    if mode=='lora':
        for l in n.ls: l.q.lora(8,16); l.v.lora(8,16)
    head=nn.Sequential(nn.Dropout(0.1),nn.Linear(128,128),nn.Tanh(),nn.Dropout(0.1),nn.Linear(128,k)).to(dev)
    ps=[p for p in list(n.parameters())+list(head.parameters()) if p.requires_grad]
    o=torch.optim.AdamW(ps,lr=lr,weight_decay=0.01); X,Y=load(t,'train'); n.train(); head.train()
    for st in range(FT):
        for g in o.param_groups: g['lr']=lr*min((st+1)/(0.06*FT),(FT-st)/FT)
        if (st*32)%(len(X)-31)<32 or st==0: pm=torch.randperm(len(X),device=dev)
        i=(st*32)%(len(X)-31); b=pm[i:i+32]; out=head(n(X[b],0.1)[:,0])
        loss=F.mse_loss(out[:,0],Y[b]) if k==1 else F.cross_entropy(out,Y[b].long())
        o.zero_grad(); loss.backward(); nn.utils.clip_grad_norm_(ps,1.0); o.step()
    n.eval(); head.eval(); res=[]
    for s in (['dev_matched','dev_mismatched'] if t=='mnli' else ['dev']):
        with torch.no_grad(): X,Y=load(t,s); out=head(n(X)[:,0]); p=out[:,0] if k==1 else out.argmax(1)
        res.append(100*metric(t,p.cpu().numpy(),Y.cpu().numpy()))
    with torch.no_grad():
        X,Y=load(t,'train'); out=head(n(X)[:,0]); p=out[:,0] if k==1 else out.argmax(1); res.append(100*metric(t,p.cpu().numpy(),Y.cpu().numpy()))
    return res
for t in [t for t in TASKS if t!='none']:
    row=[]
    for mode,lrs in [('full',[3e-4,1e-3]),('scratch',[3e-4,1e-3]),('lora',[1e-3,3e-3]),('head',[1e-3,5e-3])]:
        best=max((tune(t,mode,lr) for lr in lrs),key=lambda r:r[0]); row.append(mode+' '+'/'.join(f'{v:.1f}' for v in best))
    print(f'{t:5}',' | '.join(row),f'{time.time()-t0:.0f}s',flush=True)
